//! QR codes as text, for a terminal.
//!
//! Owns one rendering: half blocks, light on dark as most terminals are, with the quiet zone readers need.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// `None` if the text is longer than a QR code holds.
pub(crate) fn as_text(content: &str) -> Option<String> {
    let code = QrCode::new(content.as_bytes()).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).quiet_zone(true).build())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_link_fits_and_a_book_does_not() {
        let code = super::as_text("selkie://link?server=https%3A%2F%2Fexample.org&code=L1-0000").unwrap();
        assert!(code.lines().count() > 15);
        assert!(code.chars().all(|c| " \n\u{2580}\u{2584}\u{2588}".contains(c)));
        assert_eq!(super::as_text(&"x".repeat(5000)), None);
    }
}
