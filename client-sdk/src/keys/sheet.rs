//! The emergency sheet: what a person prints and puts away.
//!
//! Owns its words and its two forms, plain text and one self-contained page of HTML without script. Knows nothing of
//! how the keys on it are made or used.

use crate::error::{Error, Result, WrongKey};
use selkie_protocol::Private;
use selkie_protocol::cipher::RecoveryKey;
use std::fmt;

/// Shown once, after a sign-up, a recovery or a new recovery key. Whoever holds it holds the account.
#[derive(Clone, PartialEq, Eq)]
pub struct EmergencySheet {
    pub(crate) login_name: Private,
    pub(crate) server_url: String,
    pub(crate) server_name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) recovery_key: Private,
    pub(crate) secret_key: Option<Private>,
}

impl EmergencySheet {
    /// `R1-...`: gets the account back when the password is lost.
    pub fn recovery_key(&self) -> &str {
        self.recovery_key.as_str()
    }

    /// `S1-...`: is needed, with the password, to sign in on a new device. Missing for accounts that go without.
    pub fn secret_key(&self) -> Option<&str> {
        self.secret_key.as_ref().map(Private::as_str)
    }

    /// Whether what somebody typed back is the recovery key of this sheet.
    pub fn confirm(&self, typed: &str) -> Result<()> {
        let typed = RecoveryKey::parse(typed)?;
        if typed.to_text().as_str() == self.recovery_key.as_str() {
            Ok(())
        } else {
            Err(Error::WrongKey(WrongKey::NotTheSheets))
        }
    }

    /// For a terminal, a text file or a plain printer.
    pub fn printable_text(&self) -> String {
        let mut text = String::from("SELKIE EMERGENCY SHEET\n\n");
        for (name, value) in self.rows() {
            text.push_str(&format!("{name:<13} {value}\n"));
        }
        for paragraph in self.advice() {
            text.push_str(&format!("\n{}\n", wrapped(paragraph)));
        }
        text
    }

    /// One page to print from any browser: nothing in it is loaded from anywhere, and nothing in it runs.
    pub fn html(&self) -> String {
        let rows: String = self
            .rows()
            .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value)))
            .collect();
        let advice: String = self.advice().map(|text| format!("<p>{}</p>\n", escaped(text))).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n<title>Selkie emergency sheet</title>\n<style>\n\
             body {{ font: 12pt/1.5 Georgia, serif; max-width: 42em; margin: 3em auto }}\n\
             body {{ color: #000; background: #fff }}\n\
             table {{ border-collapse: collapse; width: 100% }}\n\
             th {{ text-align: left; font-weight: normal; white-space: nowrap; padding-right: 1.5em }}\n\
             td {{ font: 12pt/1.8 monospace; overflow-wrap: anywhere }}\n\
             tr {{ border-bottom: 1px solid #999 }}\n</style>\n</head>\n<body>\n\
             <h1>Selkie emergency sheet</h1>\n<table>\n{rows}</table>\n{advice}</body>\n</html>\n"
        )
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("Account", Some(self.login_name.as_str())),
            ("Server", Some(self.server_url.as_str())),
            ("Server name", (self.server_name != self.server_url).then_some(self.server_name.as_str())),
            ("Tenant", self.tenant.as_deref()),
            ("Recovery key", Some(self.recovery_key.as_str())),
            ("Secret Key", self.secret_key()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    fn advice(&self) -> impl Iterator<Item = &'static str> {
        let secret_key = self.secret_key.as_ref().map(|_| {
            "The Secret Key is needed together with your password whenever you sign in on a new device without another \
             device at hand."
        });
        [
            Some(
                "Print this sheet or copy it by hand, and keep it where you keep your passport. Do not keep it in an \
                 e-mail or a photo.",
            ),
            Some(
                "The recovery key gets your account back if you lose your password or all of your devices. Whoever has \
                 it has your account.",
            ),
            secret_key,
            Some(
                "Nobody else has these keys, and nobody can give them to you again: not even those who run the server.",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// At most 72 characters a line.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= 72 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

impl fmt::Debug for EmergencySheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmergencySheet(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_protocol::cipher::SecretKey;

    fn sheet() -> EmergencySheet {
        EmergencySheet {
            login_name: "<b>ana&co</b>".into(),
            server_url: "https://example.org/".into(),
            server_name: "example.org".into(),
            tenant: None,
            recovery_key: RecoveryKey::generate().to_text().as_str().into(),
            secret_key: Some(SecretKey::generate().to_text().as_str().into()),
        }
    }

    #[test]
    fn both_forms_hold_both_keys() {
        let sheet = sheet();
        for form in [sheet.printable_text(), sheet.html()] {
            assert!(form.contains(sheet.recovery_key()) && form.contains(sheet.secret_key().unwrap()));
        }
    }

    #[test]
    fn the_page_runs_nothing_and_loads_nothing() {
        let html = sheet().html();
        assert!(html.contains("&lt;b&gt;ana&amp;co&lt;/b&gt;"));
        for forbidden in ["<script", "<b>", "src=", "href=", "url(", "@import"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn what_is_typed_back_may_be_typed_freely_but_not_wrongly() {
        let sheet = sheet();
        let typed = sheet.recovery_key().to_lowercase().replace('-', " ");
        sheet.confirm(&typed).unwrap();
        let another = RecoveryKey::generate();
        assert!(matches!(sheet.confirm(&another.to_text()), Err(Error::WrongKey(WrongKey::NotTheSheets))));
        assert!(matches!(sheet.confirm(sheet.secret_key().unwrap()), Err(Error::WrongKey(WrongKey::Code(_)))));
        assert!(sheet.confirm("").is_err());
    }

    #[test]
    fn it_shows_nothing_in_debug() {
        assert_eq!(format!("{:?}", sheet()), "EmergencySheet(***)");
    }

    #[test]
    fn lines_fit_a_page() {
        assert!(sheet().printable_text().lines().all(|line| line.chars().count() <= 80));
    }
}
