//! Tables of other programs.

use crate::offline::{now, vault};
use crate::script::Script;
use selkie_client::{FieldType, Mapping, Table, TableForm};
use std::io::Cursor;

const FORMS: [TableForm; 3] = [TableForm::Csv, TableForm::Json, TableForm::NdJson];
const TYPES: [FieldType; 5] =
    [FieldType::Text, FieldType::Integer, FieldType::Number, FieldType::Boolean, FieldType::Json];
const FIELDS: [&str; 4] = ["id", "title", "cents", "Done"];

/// The form, a few rules of the mapping, and the file.
pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let form = *script.one_of(&FORMS);
    let flags = script.byte();
    let mut mapping = Mapping::default();
    for _ in 0..flags >> 3 & 3 {
        let (rule, from, to) = (script.byte(), *script.one_of(&FIELDS), *script.one_of(&FIELDS));
        mapping = match rule % 3 {
            0 => mapping.field(from, to),
            1 => mapping.leave_out(from),
            _ => mapping.typed(from, to, TYPES[usize::from(rule / 3) % TYPES.len()]),
        };
    }
    if flags & 4 != 0 {
        mapping = mapping.only_named();
    }
    let id_field = (flags & 1 != 0).then(|| "id".to_owned());
    let table = Table { form, collection: "notes".into(), id_field, mapping, overwrite: flags & 2 != 0 };

    let vault = vault();
    let bring_in = || now(vault.import_table(Cursor::new(script.0.to_vec()), table.clone()));
    let Ok(report) = bring_in() else {
        let here = now(vault.records("notes")).expect("memory can be read");
        assert!(here.is_empty(), "something of a table that was refused is here");
        return;
    };
    assert_eq!((report.rows, report.updated, report.kept), (report.new, 0, 0), "the vault was empty");
    let again = bring_in().expect("what was taken is taken again");
    assert_eq!((again.new, again.updated, again.kept), (0, 0, 0), "the same table twice makes nothing twice");
    assert_eq!((again.rows, again.digest), (report.rows, report.digest));
}
