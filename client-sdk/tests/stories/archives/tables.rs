//! Tables of other programs: brought in once, however often they are brought in.

use crate::fake::Fake;
use crate::vaults::{APP, person};
use proptest::prelude::*;
use selkie_client::{
    ArchiveError, Error, FieldType, Fields, ImportReport, Mapping, Table, TableForm, Value, Vault, field,
};
use std::collections::BTreeMap;
use std::io::Cursor;

fn table(form: TableForm, id_field: Option<&str>) -> Table {
    let (collection, id_field) = ("notes".into(), id_field.map(str::to_owned));
    Table { form, collection, id_field, mapping: Mapping::default(), overwrite: false }
}

async fn bring_in(vault: &Vault, table: &Table, text: &str) -> Result<ImportReport, Error> {
    vault.import_table(Cursor::new(text.as_bytes().to_vec()), table.clone()).await
}

fn counts(report: &ImportReport) -> [u64; 4] {
    [report.new, report.same, report.kept, report.updated]
}

#[tokio::test]
async fn a_table_becomes_records_and_what_was_edited_since_is_kept() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let csv = table(TableForm::Csv, Some("ID"));
    let first = "ID,title,body\n1,Hello,\"two\nlines\"\n2,Bye,\n";
    assert_eq!(counts(&bring_in(&vault, &csv, first).await.unwrap()), [2, 0, 0, 0]);
    assert_eq!(counts(&bring_in(&vault, &csv, first).await.unwrap()), [0, 2, 0, 0]);
    let notes = vault.collection::<Fields>("notes");
    let records = vault.records("notes").await.unwrap();
    let hello = records.iter().find(|record| String::from_utf8_lossy(&record.data).contains("Hello")).unwrap().id;
    assert_eq!(notes.get(hello).await.unwrap().unwrap().get("body"), Some(&Value::from("two\nlines")));

    notes.update(hello, |note| note.set("title", "Hello, Ana")).await.unwrap();
    let more = "ID,title,body\n1,Hello,\"two\nlines\"\n2,Bye,\n3,Third,\n";
    let report = bring_in(&vault, &csv, more).await.unwrap();
    assert_eq!((counts(&report), report.kept_records), ([1, 1, 1, 0], vec![hello]));
    assert_eq!(notes.get(hello).await.unwrap().unwrap().get("title"), Some(&Value::from("Hello, Ana")));
    let over = Table { overwrite: true, ..csv };
    assert_eq!(counts(&bring_in(&vault, &over, more).await.unwrap()), [0, 2, 0, 1]);
    assert_eq!(notes.get(hello).await.unwrap().unwrap().get("title"), Some(&Value::from("Hello")));
    assert_eq!(counts(&bring_in(&vault, &over, more).await.unwrap()), [0, 3, 0, 0]);
}

#[tokio::test]
async fn a_table_with_one_bad_row_changes_nothing_and_names_the_row() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let before = vault.status().await.unwrap().pending;
    let large = format!("[{{\"id\":1}},{{\"id\":2,\"x\":\"{}\"}}]", "x".repeat(300_000));
    for (form, text, bad) in [
        (TableForm::Csv, "id,t\n1,a\n1,b\n", 2),
        (TableForm::Csv, "id,t\n1,a\n2\n", 2),
        (TableForm::NdJson, "{\"id\":1}\n{\"other\":2}\n", 2),
        (TableForm::NdJson, "{\"id\":1}\n{\"id\":2", 2),
        (TableForm::Json, large.as_str(), 2),
    ] {
        let refused = bring_in(&vault, &table(form, Some("id")), text).await.unwrap_err();
        let Error::Archive(ArchiveError::BadRow { row, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(row, bad, "{form:?}");
    }
    let own = Table { collection: "selkie.vault".into(), ..table(TableForm::Json, None) };
    assert!(matches!(bring_in(&vault, &own, "[{}]").await, Err(Error::NotPossible(_))));
    assert_eq!(vault.status().await.unwrap().pending, before);
}

type Rows = BTreeMap<u16, (String, String)>;

fn as_csv(rows: &Rows) -> String {
    let quoted = |text: &String| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |(id, (title, body)): (&u16, &(String, String))| format!("{id},{},{}\n", quoted(title), quoted(body));
    "id,title,body\n".to_owned() + &rows.iter().map(line).collect::<String>()
}

fn as_lines(rows: &Rows) -> String {
    let line = |(id, (title, body)): (&u16, &(String, String))| {
        serde_json::json!({ "id": id.to_string(), "title": title, "body": body }).to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// One vault, and a collection of its own for every case.
struct Place {
    runtime: tokio::runtime::Runtime,
    vault: Vault,
    cases: std::sync::atomic::AtomicUsize,
}

fn place() -> &'static Place {
    static PLACE: std::sync::OnceLock<Place> = std::sync::OnceLock::new();
    PLACE.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let vault = runtime.block_on(async {
            let ana = person(&Fake::start(), "ana@example.org").await;
            ana.account.create_vault("Journal", APP).await.unwrap()
        });
        Place { runtime, vault, cases: Default::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever the rows say, in whichever form and after whichever part of them came before.
    #[test]
    fn a_row_is_one_record_however_often_it_comes(
        rows in prop::collection::btree_map(any::<u16>(), (".*", "[a\",\r\n]*"), 0..20),
        part in 0_usize..20,
        by_id in any::<bool>(),
    ) {
        let Place { runtime, vault, cases } = place();
        let case = cases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let with = |form| Table { collection: format!("case {case}"), ..table(form, by_id.then_some("id")) };
        let first: Rows = rows.iter().take(part).map(|(id, row)| (*id, row.clone())).collect();
        let (before, all) = (first.len() as u64, rows.len() as u64);
        runtime.block_on(async {
            let import = async |form, text: String| counts(&bring_in(vault, &with(form), &text).await.unwrap());
            assert_eq!(import(TableForm::Csv, as_csv(&first)).await, [before, 0, 0, 0]);
            assert_eq!(import(TableForm::Csv, as_csv(&rows)).await, [all - before, before, 0, 0]);
            assert_eq!(import(TableForm::NdJson, as_lines(&rows)).await, [0, all, 0, 0]);
            assert_eq!(import(TableForm::Csv, as_csv(&rows)).await, [0, all, 0, 0]);
            assert_eq!(vault.records(&format!("case {case}")).await.unwrap().len() as u64, all);
        });
    }
}

/// What comes from a program that knows nothing but text is found by its numbers, and can be compared.
#[tokio::test]
async fn fields_of_a_table_get_names_and_types_and_the_same_rows_the_same_digest() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let vault = ana.account.create_vault("Home", APP).await.unwrap();
    let mapping = Mapping::default().field("What", "what").typed("Amount", "cents", FieldType::Integer).leave_out("No");
    let table = Table { mapping, ..table(TableForm::Csv, Some("No")) };
    let text = "No,What,Amount\n1,Rent,90000\n2,Heat,5000\n3,Gift,\n";
    let report = bring_in(&vault, &table, text).await.unwrap();
    assert_eq!((report.new, report.rows), (3, 3));
    let costs = vault.collection::<Fields>("notes");
    let dear = costs.query().filter(field("cents").ge(10_000)).all().await.unwrap();
    let said: Vec<_> = dear.iter().map(|found| Value::Map(found.value.0.clone()).to_json()).collect();
    assert_eq!(said, [serde_json::json!({ "what": "Rent", "cents": 90_000 })]);

    // The same rows in another order are the same records, and one that says something else makes another digest.
    let again = bring_in(&vault, &table, "No,What,Amount\n3,Gift,\n2,Heat,5000\n1,Rent,90000\n").await.unwrap();
    assert_eq!((again.same, again.digest), (3, report.digest));
    let changed = "No,What,Amount\n1,Rent,95000\n2,Heat,5000\n3,Gift,\n";
    let kept = bring_in(&vault, &table, changed).await.unwrap();
    assert_eq!((kept.same, kept.kept, kept.digest), (2, 1, report.digest), "what is here says what it said");
    let over = Table { overwrite: true, ..table.clone() };
    let updated = bring_in(&vault, &over, changed).await.unwrap();
    assert_eq!(updated.updated, 1);
    assert_ne!(updated.digest, report.digest);

    // What does not fit is told, and nothing of it is written.
    let wrong = bring_in(&vault, &table, "No,What,Amount\n4,Food,ten\n").await.unwrap_err();
    assert!(wrong.to_string().contains("row 1") && wrong.to_string().contains("Amount"), "{wrong}");
    let typo = Table { mapping: Mapping::default().field("Wat", "what"), ..table };
    let wrong = bring_in(&vault, &typo, text).await.unwrap_err();
    assert!(wrong.to_string().contains("Wat") && wrong.to_string().contains("What"), "{wrong}");
    assert_eq!(costs.query().count().await.unwrap(), 3);
}
