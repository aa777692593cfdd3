//! Which App Volumes it is, out of `…/version`: the reference shows the answer nested, managers give it flat.

use super::value::Fields;

/// The two families of managers, which have different lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ManagerGeneration {
    /// AppStacks and writables below `cv_api`.
    Two,
    /// Packages and writables below `app_volumes`, and perhaps AppStacks too.
    Four,
}

/// A manager's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManagerVersion {
    pub(super) text: String,
    pub(super) generation: ManagerGeneration,
}

/// Reads it. `Err` has the text that tells no version that is known here.
pub(super) fn version(fields: Fields<'_>) -> Result<ManagerVersion, String> {
    let told = fields.text("version");
    let Some(text) = fields.text("internal").or_else(|| told.clone()) else { return Err("none".to_owned()) };
    let whole = [Some(text.as_str()), told.as_deref()];
    let generation = whole.into_iter().flatten().find_map(generation);
    generation.map(|generation| ManagerVersion { text: text.clone(), generation }).ok_or(text)
}

/// `2.17.0`, `4.15.0.687`, `App Volumes 4, version 2309`, and the year and month alone (`2410`).
fn generation(text: &str) -> Option<ManagerGeneration> {
    let first = text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    match first.parse::<u32>().ok()? {
        2 => Some(ManagerGeneration::Two),
        4 | 5 | 2000..=9999 => Some(ManagerGeneration::Four),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_way_to_tell_it_is_read() {
        let cases = [
            (
                json!({ "version": "2.17.0 (development)", "internal": "2.17.0" }),
                Ok(("2.17.0", ManagerGeneration::Two)),
            ),
            (
                json!({ "version": "App Volumes 4, version 2309", "internal": "4.7.0" }),
                Ok(("4.7.0", ManagerGeneration::Four)),
            ),
            (
                json!({ "version": "App Volumes 4, version 2309" }),
                Ok(("App Volumes 4, version 2309", ManagerGeneration::Four)),
            ),
            (json!({ "version": "2410", "internal": null }), Ok(("2410", ManagerGeneration::Four))),
            (json!({ "version": "2.6.0.115" }), Ok(("2.6.0.115", ManagerGeneration::Two))),
            (json!({ "version": "3.0.1", "internal": "3.0.1" }), Err("3.0.1")),
            (json!({ "version": "dev" }), Err("dev")),
            (json!({ "uptime": "1 day" }), Err("none")),
        ];
        for (value, expected) in cases {
            let read = version(Fields::of(&value).unwrap());
            let read = read.as_ref().map(|read| (read.text.as_str(), read.generation)).map_err(String::as_str);
            assert_eq!(read, expected, "{value}");
        }
    }
}
