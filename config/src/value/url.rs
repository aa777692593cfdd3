//! Addresses of web services and of the catalog's database. They carry no password, and errors never repeat them whole,
//! since a person may have put one in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::host::HostText;
use super::{ValueError, text_value};

/// The address of an App Volumes Manager or a vCenter: `https://host[:port][/path]`. Plain `http` only to this machine
/// itself, since a password is sent there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebUrl {
    text: String,
    host: String,
    port: u16,
}

text_value!(WebUrl, "the address of a web service", "https://avm.example.com");

impl WebUrl {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host's name or address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: the one written, else 443 (or 80 for `http`).
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }
}

impl FromStr for WebUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong =
            |why: &str| ValueError::new(format!("the address {why}"), r#"write it as "https://avm.example.com""#);
        let (port, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (443, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (80, rest)
        } else {
            return Err(wrong("does not begin with https://"));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if authority.contains('@') {
            return Err(ValueError::new(
                "the address has a user or password in it",
                "give them as `username` and `password` of this entry",
            ));
        }
        if rest.contains(['?', '#']) {
            return Err(wrong("has a `?` or `#` part"));
        }
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(wrong("has a space or control character in it"));
        }
        let host: HostText = authority.parse().map_err(|_| wrong("has no right host name or port"))?;
        let host = host.or_port(port);
        let loopback = host.host == "localhost" || host.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if port == 80 && !loopback {
            return Err(wrong("is not encrypted, and a password is sent there"));
        }
        Ok(Self { text: text.to_owned(), host: host.host, port: host.port })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The catalog's database where it is not SQLite: `postgres://user@host/database`, without a password (it goes into
/// `catalog_password`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CatalogUrl(String);

text_value!(CatalogUrl, "the address of a PostgreSQL database", "postgres://stackferry@db.example.com/stackferry");

impl CatalogUrl {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CatalogUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let how = r#"write it as "postgres://stackferry@db.example.com/stackferry", or leave it out for SQLite"#;
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or_else(|| ValueError::new("the catalog's address does not begin with postgres://", how))?;
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(ValueError::new("the catalog's address has a space or control character in it", how));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or(place);
        // The last `@`: a password may hold others.
        let in_user = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        // A slash in a password ends the authority too early, and the `@` then stands in what looks like the path.
        let in_path = place.contains('@') && !authority.contains('@');
        // Percent signs are refused in the query, so that no escape can hide the key's name.
        let in_query = query.contains('%') || query.to_ascii_lowercase().contains("password");
        if in_user || in_path || in_query {
            return Err(ValueError::new(
                "the catalog's address seems to hold a password",
                "passwords are given by reference, as catalog_password = { credential = \"catalog\" }",
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
