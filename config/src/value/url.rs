//! URLs of web services and of the catalog's database. They carry no password, and errors never repeat them, since a user
//! may have put one in.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use super::{ValueError, text_value};

/// The URL of an App Volumes Manager, a vCenter or a webhook: `https://host[:port][/path]`. Plain `http` only to this
/// machine itself, since a password is sent there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebUrl(String);

text_value!(WebUrl, "the address of a web service", "https://avm.example.com");

impl WebUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for WebUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid =
            |why: &str| ValueError::new(format!("the address {why}"), r#"write it as "https://avm.example.com""#);
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return Err(invalid("does not begin with https://"));
        };
        // The URL standard drops or rewrites these.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(invalid("has a space, a backslash or a control character in it"));
        }
        if rest.starts_with('/') {
            return Err(invalid("has no host"));
        }
        let url = Url::parse(text).map_err(|error| invalid(&format!("is invalid: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ValueError::new(
                "the address has a user or password in it",
                "write them as `username` and `password` of this entry",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("has a `?` or `#` part"));
        }
        if url.port() == Some(0) {
            return Err(invalid("has port 0"));
        }
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !is_loopback {
            return Err(invalid("is not encrypted, and a password is sent there"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of the catalog's database if it is not SQLite: `postgres://user@host/database`, without a password (see
/// `catalog_password`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CatalogUrl(String);

text_value!(CatalogUrl, "the address of a PostgreSQL database", "postgres://stackferry@db.example.com/stackferry");

impl CatalogUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CatalogUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let how = r#"write it as "postgres://stackferry@db.example.com/stackferry", or leave it out for SQLite"#;
        let invalid = |why: &str| ValueError::new(format!("the catalog's address {why}"), how);
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(invalid("does not begin with postgres://"));
        }
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(invalid("has a space or control character in it"));
        }
        let url = Url::parse(text).map_err(|error| invalid(&format!("is invalid: {error}")))?;
        // A slash in a password ends the host too early, and the `@` is then in what looks like the path.
        let in_path = url.path().contains('@');
        let in_query = url.query_pairs().any(|(key, _)| key.to_ascii_lowercase().contains("password"));
        if url.password().is_some() || in_path || in_query {
            return Err(ValueError::new(
                "the catalog's address seems to hold a password",
                "write a reference to it, as catalog_password = { credential = \"catalog\" }",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CatalogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
