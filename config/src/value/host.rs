//! Hosts with ports, and addresses to listen on.
//!
//! The `url` crate does not parse these: it knows no zone of an IPv6 address (`fe80::1%eth0`), and it rewrites names, which
//! SSH looks up in `known_hosts` exactly as they are written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{ValueError, shown, text_value};

/// A host and a port, as a route uses them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets (it may carry a `%zone`).
    pub host: String,
    /// The TCP port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }
}

/// `name`, `name:port`, `[v6]` or `[v6]:port` as it stands in the file: the port may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostText {
    host: String,
    port: Option<u16>,
}

text_value!(HostText, "a host, with or without a port", "stor2.example.com:2222");

impl HostText {
    /// The host with its own port, or else this one.
    pub(crate) fn or_port(self, port: u16) -> HostPort {
        HostPort { port: self.port.unwrap_or(port), host: self.host }
    }
}

impl From<HostPort> for HostText {
    fn from(from: HostPort) -> Self {
        Self { host: from.host, port: Some(from.port) }
    }
}

impl FromStr for HostText {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why: &str| {
            ValueError::new(
                format!("host {} {why}", shown(text)),
                r#"write it as "stor2.example.com:2222", "192.0.2.7" or "[2001:db8::7]:2222""#,
            )
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(|| wrong("has no closing `]`"))?;
            if !is_v6(host) {
                return Err(wrong("is not an IPv6 address"));
            }
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("has no `:` before its port"))?)),
            }
        } else {
            if text.matches(':').count() > 1 {
                return Err(wrong("has an IPv6 address without brackets"));
            }
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            if !is_name(host) {
                return Err(wrong("is not a name or an address"));
            }
            (host, port)
        };
        let port = match port {
            None => None,
            Some(port) => Some(parse_port(port).ok_or_else(|| wrong("has no port from 1 to 65535"))?),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok().filter(|port| *port != 0)
}

fn is_v6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').map_or((host, "-"), |(address, zone)| (address, zone));
    let zone_fits =
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    address.parse::<Ipv6Addr>().is_ok() && zone_fits
}

/// A DNS name or an IPv4 address: at most 253 bytes of labels (RFC 1123, with `_` as found in practice), none of which
/// begins or ends with `-`.
fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label_fits)
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// An address and port of this machine to listen on. Port 0 lets the system choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen(SocketAddr);

text_value!(Listen, "an address and port to listen on", "127.0.0.1:9812");

impl Listen {
    /// As the standard library's type.
    pub const fn address(self) -> SocketAddr {
        self.0
    }

    /// Whether only this machine itself can reach it.
    pub const fn is_loopback(self) -> bool {
        match self.0.ip() {
            IpAddr::V4(v4) => v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_loopback(),
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| {
            ValueError::new(
                format!("{} is not an address and port", shown(text)),
                r#"write an IP address and a port, as "127.0.0.1:9812", "0.0.0.0:2222" or "[::]:2222""#,
            )
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
