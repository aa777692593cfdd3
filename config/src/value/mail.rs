//! Addresses of people and of the server that carries mail to them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::host::{HostPort, HostText};
use super::{ValueError, shown, text_value};

/// A plain mail address: `backup@example.com`. No display name, no quotes, ASCII only: it goes into a mail's head and into
/// the SMTP dialogue, where nothing else may stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailAddress(String);

text_value!(MailAddress, "a mail address", "backup@example.com");

impl MailAddress {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MailAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            let how = r#"write it as "backup@example.com", without a name and without < >"#;
            ValueError::new(format!("{} is not a plain mail address", shown(text)), how)
        };
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        // RFC 5322's dot-atom, at most 64 bytes (RFC 5321, 4.5.3.1.1).
        let is_atom = |part: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
            !part.is_empty() && part.bytes().all(fits)
        };
        if local.len() > 64 || !local.split('.').all(is_atom) {
            return Err(wrong());
        }
        let is_name = domain.parse::<HostText>().is_ok() && !domain.contains([':', '[']) && !domain.ends_with('.');
        if is_name { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mail server: `mail.example.com` or `mail.example.com:587`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailServer(HostText);

text_value!(MailServer, "a mail server, with or without a port", "mail.example.com:587");

impl MailServer {
    /// The server with its own port, or else this one.
    pub fn or_port(&self, port: u16) -> HostPort {
        self.0.clone().or_port(port)
    }

    /// Whether it is this machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.or_port(0).host;
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for MailServer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
