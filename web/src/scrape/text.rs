//! Prometheus' text format, written directly: a site has some 50,000 series, and a scrape is a few million bytes. No
//! second form of them is held in memory.

use std::collections::BTreeMap;
use std::fmt::Write;

use stackferry_engine::metrics::registry::Family;

/// What is told in one scrape, by family.
#[derive(Debug, Default)]
pub(super) struct MetricsText(BTreeMap<String, String>);

impl MetricsText {
    /// Adds a sample. Values of labels are given in the order of the family's labels.
    pub(super) fn put(&mut self, family: &Family, values: &[&str], value: f64) {
        self.put_at(family, &labels(family.labels, values), value);
    }

    /// Adds a sample with labels as [`labels`] gives them.
    pub(super) fn put_at(&mut self, family: &Family, labels: &str, value: f64) {
        let text = self.family(family);
        // A `String` takes everything. Rust writes numbers without exponents, which the format allows.
        let _ = writeln!(text, "{}{labels} {value}", family.name);
    }

    /// Adds a family that was encoded elsewhere, head and all.
    pub(super) fn add(&mut self, name: &str, encoded: &str) {
        self.0.entry(name.to_owned()).or_default().push_str(encoded);
    }

    fn family(&mut self, family: &Family) -> &mut String {
        if !self.0.contains_key(family.name) {
            let head = format!(
                "# HELP {name} {}\n# TYPE {name} {}\n",
                escape(family.meaning, false),
                family.kind.as_str(),
                name = family.name
            );
            self.0.insert(family.name.to_owned(), head);
        }
        self.0.entry(family.name.to_owned()).or_default()
    }

    /// All of it, families by name.
    pub(super) fn finish(self) -> String {
        let mut all = String::with_capacity(self.0.values().map(String::len).sum());
        for text in self.0.into_values() {
            all.push_str(&text);
        }
        all
    }
}

/// Labels as they stand behind a name, in the order of their names: `{kind="appstack",volume="appstack/Office"}`, or
/// nothing.
pub(super) fn labels(names: &[&str], values: &[&str]) -> String {
    let mut text = String::new();
    let mut pairs: Vec<_> = names.iter().zip(values).collect();
    pairs.sort_unstable();
    for (name, value) in pairs {
        let before = if text.is_empty() { '{' } else { ',' };
        let _ = write!(text, "{before}{name}=\"{}\"", escape(value, true));
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

/// As the format wants it: <https://prometheus.io/docs/instrumenting/exposition_formats/>, "Comments, help text, and type
/// information".
fn escape(text: &str, is_label: bool) -> std::borrow::Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return text.into();
    }
    let mut escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label {
        escaped = escaped.replace('"', "\\\"");
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stackferry_engine::metrics::registry;

    #[test]
    fn families_have_one_head_and_stand_in_order() {
        let mut text = MetricsText::default();
        text.put(&registry::VOLUMES, &["writable", "ready"], 2.0);
        text.put(&registry::BUILD_INFO, &["a\"b\\c\nd"], 1.0);
        text.put(&registry::VOLUMES, &["appstack", "gone"], 1_763_791_200.125);
        let (info, volumes) = (registry::BUILD_INFO.meaning, registry::VOLUMES.meaning);
        let expected = format!(
            "# HELP stackferry_build_info {info}\n\
             # TYPE stackferry_build_info gauge\n\
             stackferry_build_info{{version=\"a\\\"b\\\\c\\nd\"}} 1\n\
             # HELP stackferry_volumes {volumes}\n\
             # TYPE stackferry_volumes gauge\n\
             stackferry_volumes{{kind=\"writable\",state=\"ready\"}} 2\n\
             stackferry_volumes{{kind=\"appstack\",state=\"gone\"}} 1763791200.125\n"
        );
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn without_labels_there_are_no_braces() {
        assert_eq!(labels(&[], &[]), "");
        assert_eq!(labels(&["b", "a"], &["2", "1"]), "{a=\"1\",b=\"2\"}");
    }
}
