//! Just enough of PromQL to find names in expressions; Prometheus itself checks the syntax.

/// What stands for Grafana's own variables, and for those of the dashboards, when an expression is given to Prometheus.
pub(crate) fn expanded(expression: &str) -> String {
    let own = [("$__rate_interval", "1m"), ("$__range", "1h"), ("$__interval", "1m")];
    let text = own.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        let name = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').map(char::len_utf8).sum();
        out.push_str(before);
        out.push_str(".+");
        rest = &after[name..];
    }
    out + rest
}

/// A name in an expression: a metric, a function, a label or a word of the language.
pub(crate) struct Name<'a> {
    pub(crate) text: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

/// All names outside of quotes.
pub(crate) fn names(expression: &str) -> Vec<Name<'_>> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let (bytes, mut found, mut at, mut quoted) = (expression.as_bytes(), Vec::new(), 0, false);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            quoted = !quoted;
        }
        let start = at;
        at += 1;
        if quoted || !is_part(bytes[start]) {
            continue;
        }
        while at < bytes.len() && is_part(bytes[at]) {
            at += 1;
        }
        let (before, text, after) = (&expression[..start], &expression[start..at], &expression[at..]);
        if !bytes[start].is_ascii_digit() {
            found.push(Name { text, before, after });
        }
    }
    found
}

/// The names of ours among them: families, and what rules record.
pub(crate) fn metrics(expression: &str) -> Vec<Name<'_>> {
    let all = names(expression).into_iter();
    all.filter(|name| name.text.contains("stackferry_") || name.text.starts_with("process_")).collect()
}

#[test]
fn metric_names_are_found_and_variables_expanded() {
    let expression = r#"sum by (le) (rate(stackferry_x_bucket{job=~"$job",a="stackferry_no"}[$__rate_interval])) > 5m"#;
    let found: Vec<&str> = names(expression).iter().map(|name| name.text).collect();
    assert_eq!(found, ["sum", "by", "le", "rate", "stackferry_x_bucket", "job", "a", "__rate_interval"]);
    let ours = metrics(expression);
    assert_eq!((ours.len(), ours[0].text), (1, "stackferry_x_bucket"));
    assert!(ours[0].before.ends_with("rate(") && ours[0].after.starts_with("{job"));
    let expected = r#"sum by (le) (rate(stackferry_x_bucket{job=~".+",a="stackferry_no"}[1m])) > 5m"#;
    assert_eq!(expanded(expression), expected);
}
