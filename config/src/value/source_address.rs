//! From where a host sees this machine come: `connection`, `any`, or addresses and networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{ValueError, shown, text_value};

/// The most addresses and networks in one list.
const MOST: usize = 64;
const HINT: &str = "write \"connection\", \"any\", or addresses and networks as \"192.0.2.7,198.51.100.0/24\"";

/// From where a certificate may be used, as the host sees it: the critical option `source-address` (ssh-keygen(1)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourceAddress {
    /// From the address that the connection comes from, as this machine sees it.
    #[default]
    Connection,
    /// From anywhere.
    Any,
    /// From these addresses and networks, separated by commas.
    Given(String),
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Any => "any",
            Self::Given(list) => list,
        })
    }
}

impl FromStr for SourceAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "connection" => return Ok(Self::Connection),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > MOST {
            return Err(ValueError::new(format!("more than {MOST} addresses"), "name networks instead"));
        }
        for part in &parts {
            check(part)?;
        }
        Ok(Self::Given(parts.join(",")))
    }
}

fn check(part: &str) -> Result<(), ValueError> {
    let wrong = || ValueError::new(format!("{} is no address or network", shown(part)), HINT);
    let (address, prefix) = part.split_once('/').map_or((part, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let Some(prefix) = prefix else { return Ok(()) };
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u32 = prefix.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    // As 128 bits, with the address at the top.
    let (bits, most) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    if prefix > most {
        return Err(wrong());
    }
    // OpenSSH refuses the whole list for one of these.
    if bits.checked_shl(prefix).unwrap_or(0) != 0 {
        let text = format!("{} has bits set beyond its {prefix}", shown(part));
        return Err(ValueError::new(text, "a network ends with zeros, as 198.51.100.0/24"));
    }
    Ok(())
}

text_value!(SourceAddress, "from where a certificate may be used, as the host sees it", "192.0.2.7,198.51.100.0/24");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssh_takes_is_taken_and_nothing_else() {
        for good in
            ["connection", "any", "192.0.2.7", "192.0.2.7,198.51.100.0/24", "2001:db8::/32,::1", "0.0.0.0/0", "::/0"]
        {
            assert_eq!(good.parse::<SourceAddress>().unwrap().to_string(), good);
        }
        let spaced: SourceAddress = "192.0.2.7, ::1/128".parse().unwrap();
        assert_eq!(spaced, SourceAddress::Given("192.0.2.7,::1/128".to_owned()));
        for bad in [
            "",
            "Any",
            "host.example.com",
            "192.0.2.7,",
            "192.0.2.0/33",
            "192.0.2.7/24",
            "::1/64",
            "192.0.2.0/+8",
            "192.0.2.0/",
            "!192.0.2.7",
            "192.0.2.7,any",
            "192.0.2.*",
        ] {
            assert!(bad.parse::<SourceAddress>().is_err(), "{bad:?}");
        }
        let error = "192.0.2.7/24".parse::<SourceAddress>().unwrap_err();
        assert_eq!(error.text(), "\"192.0.2.7/24\" has bits set beyond its 24");
        assert!(vec!["::1"; 65].join(",").parse::<SourceAddress>().is_err());
    }
}
