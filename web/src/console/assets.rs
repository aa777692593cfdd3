//! The files that pages need, inside the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// htmx 2.0.11, as its authors publish it (0BSD; see `htmx-LICENSE.txt`).
const HTMX: &str = include_str!("assets/htmx.min.js");
pub(super) const STYLE: &str = include_str!("assets/console.css");
const ICON: &str = include_str!("assets/icon.svg");

/// An asset. A browser asks again for one after an hour, so that a new program's pages soon have theirs.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "htmx.min.js" => ("text/javascript; charset=utf-8", HTMX),
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=3600")], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What stands on what, and which contrast it has to have: 4.5 for text, 3 for what is only seen (WCAG 2.2, 1.4.3 and
    /// 1.4.11).
    const PAIRS: [(&str, &str, f64); 35] = [
        ("text", "ground", 4.5),
        ("text", "panel", 4.5),
        ("soft", "ground", 4.5),
        ("soft", "panel", 4.5),
        ("link", "ground", 4.5),
        ("link", "panel", 4.5),
        ("bar-text", "bar", 4.5),
        ("bar-soft", "bar", 4.5),
        ("button-text", "button", 4.5),
        ("good", "good-ground", 4.5),
        ("good", "panel", 4.5),
        ("good", "ground", 4.5),
        ("warn", "warn-ground", 4.5),
        ("warn", "panel", 4.5),
        ("warn", "ground", 4.5),
        ("bad", "bad-ground", 4.5),
        ("bad", "panel", 4.5),
        ("bad", "ground", 4.5),
        ("quiet", "quiet-ground", 4.5),
        ("text", "good-ground", 4.5),
        ("text", "warn-ground", 4.5),
        ("text", "bad-ground", 4.5),
        ("text", "quiet-ground", 4.5),
        ("fill-good", "panel", 3.0),
        ("fill-bad", "panel", 3.0),
        ("fill-dull", "panel", 3.0),
        ("fill-warn", "panel", 3.0),
        ("fill-good", "ground", 3.0),
        ("fill-warn", "ground", 3.0),
        ("fill-bad", "ground", 3.0),
        ("focus", "ground", 3.0),
        ("focus", "panel", 3.0),
        ("bar-focus", "bar", 3.0),
        ("bar-focus", "button", 3.0),
        ("link", "quiet-ground", 4.5),
    ];

    fn variables(block: &str) -> HashMap<&str, [f64; 3]> {
        let lines = block.lines().filter_map(|line| line.trim().strip_prefix("--")?.strip_suffix(';'));
        lines
            .map(|line| {
                let (name, colour) = line.split_once(": #").unwrap();
                let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                (name, [part(0), part(2), part(4)])
            })
            .collect()
    }

    /// WCAG 2.2: relative luminance.
    fn luminance(colour: [f64; 3]) -> f64 {
        let [red, green, blue] =
            colour.map(|part| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
        one.max(other) / one.min(other)
    }

    #[test]
    fn colours_can_be_read_in_light_and_in_dark() {
        assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 0.01);
        let (light, rest) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
        let dark = rest.split_once("* { box-sizing").unwrap().0;
        let (light, dark) = (variables(light), variables(dark));
        assert!(light.len() > 20 && light.len() == dark.len(), "{} and {}", light.len(), dark.len());
        for (scheme, colours) in [("light", light), ("dark", dark)] {
            for (front, back, least) in PAIRS {
                let found = contrast(colours[front], colours[back]);
                assert!(found >= least, "{scheme}: {front} on {back} is {found:.2}, at least {least} is needed");
            }
        }
    }

    #[test]
    fn pages_load_nothing_from_elsewhere_and_have_no_inline_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let mut pages = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for forbidden in [" style=", "<style", "javascript:", " on", "http://", "https://", "|safe"] {
                let found = text.match_indices(forbidden).any(|(at, _)| {
                    // An event's attribute, as ` onclick=`.
                    let rest = &text[at + forbidden.len()..];
                    forbidden != " on"
                        || rest.split('=').next().is_some_and(|word| word.chars().all(char::is_alphabetic))
                });
                assert!(!found, "{}: {forbidden}", path.display());
            }
            let inline =
                text.match_indices("<script").filter(|(at, _)| !text[*at..].starts_with("<script src=\"/assets/"));
            assert_eq!(inline.count(), 0, "{}", path.display());
            pages += 1;
        }
        assert!(pages > 8);
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
