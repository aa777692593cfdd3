//! Plain tables without borders, and how sizes, times and hostile texts stand in them.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use stackferry_volume::reason::is_harmful;

/// What a table is made for.
#[derive(Debug, Clone)]
pub struct Style {
    zone: TimeZone,
}

impl Style {
    /// For a person at this machine.
    #[must_use]
    pub fn local() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// With times of this zone.
    #[must_use]
    pub fn zone(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// A time, to the second: `2026-11-22 05:15:00`.
    #[must_use]
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// A time, or a dash.
    #[must_use]
    pub fn maybe_time(&self, at: Option<Timestamp>) -> String {
        at.map_or_else(none, |at| self.time(at))
    }
}

/// What stands for nothing.
#[must_use]
pub fn none() -> String {
    "-".to_owned()
}

/// A text, or a dash.
#[must_use]
pub fn or_none(text: Option<impl ToString>) -> String {
    text.map_or_else(none, |text| text.to_string())
}

/// `yes` or `no`.
#[must_use]
pub fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// Bytes as people read them, to a tenth of the largest unit that fits: `38.2 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut shift = 0u32;
    let mut unit = None;
    for name in UNITS {
        if bytes >> shift < 1024 {
            break;
        }
        shift += 10;
        unit = Some(name);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => {
            // Cut, not rounded, so that 1023.99 MiB is never shown as 1024.0 MiB.
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// A text from outside as it may be shown on a terminal: characters that move the cursor, turn the direction of text
/// around or can't be seen are written as `\u{1b}`. Nothing is cut, and a text without them stays as it is.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Which side the cells of a column stand at.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers and sizes.
    Right,
}

/// A table being made. Every cell is made harmless.
pub struct Grid(Table);

impl Grid {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&str, Side)]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (column, (_, side)) in table.column_iter_mut().zip(columns) {
            let alignment = match side {
                Side::Left => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            };
            column.set_padding((0, 2)).set_cell_alignment(alignment);
        }
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| escape(&cell)).collect::<Vec<_>>());
    }

    /// The table as text, each line ended.
    #[must_use]
    pub fn finish(self) -> String {
        let mut text = self.0.trim_fmt();
        text.push('\n');
        text
    }
}

/// Names and values of one thing, one pair a line.
#[must_use]
pub fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (name, value) in pairs {
        let name = format!("{name}:");
        text.push_str(&format!("{name:<width$} {}\n", escape(&value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_a_tenth() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (20 << 30, "20.0 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_could_move_a_cursor_is_written_out() {
        assert_eq!(escape("a\u{1b}[2J\n\u{202e}b\u{200b}"), r"a\u{1b}[2J\u{a}\u{202e}b\u{200b}");
        assert_eq!(escape(r"CORP\jdoe – Übung"), r"CORP\jdoe – Übung");
    }
}
