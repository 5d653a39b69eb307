//! Tables of other programs: brought in once, however often they are brought in.

use crate::fake::Fake;
use crate::vaults::{APP, person};
use proptest::prelude::*;
use selkie_client::{ArchiveError, Error, Fields, ImportReport, Table, TableForm, Value, Vault};
use std::collections::BTreeMap;
use std::io::Cursor;

fn table(form: TableForm, id_field: Option<&str>) -> Table {
    Table { form, collection: "notes".into(), id_field: id_field.map(str::to_owned), overwrite: false }
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
