//! The services that an endpoint accepts: lines as in `authorized_keys` (sshd(8)), with the options `from` and
//! `restrict`.

use std::net::IpAddr;

use russh::keys::PublicKey;

use crate::known_hosts::wildcard;

/// A service that may request grants.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Its key.
    pub key: PublicKey,
    /// Its comment, or its key's fingerprint.
    pub name: String,
    from: Option<Vec<String>>,
}

impl Issuer {
    /// Its unambiguous name: two keys may have the same comment.
    #[must_use]
    pub fn shown(&self) -> String {
        let fingerprint = self.key.fingerprint(russh::keys::ssh_key::HashAlg::Sha256).to_string();
        if self.name == fingerprint { fingerprint } else { format!("{} {fingerprint}", self.name) }
    }

    /// Whether the service may connect from this address. As in sshd(8): patterns with `*` and `?`, or networks in CIDR
    /// notation; `!` forbids.
    #[must_use]
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        let Some(patterns) = &self.from else { return true };
        let address = address.to_canonical();
        let mut found = false;
        for pattern in patterns {
            let (forbids, pattern) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |rest| (true, rest));
            let matches = match pattern.split_once('/') {
                Some((network, bits)) => in_network(address, network, bits).unwrap_or(false),
                None => wildcard(pattern, &address.to_string()),
            };
            if matches && forbids {
                return false;
            }
            found |= matches;
        }
        found
    }
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Some(u32::from(address) & mask == u32::from(network) & mask)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Some(u128::from(address) & mask == u128::from(network) & mask)
        }
        _ => None,
    }
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Issuer, String> {
    let line = line.trim();
    let (options, key) = split_options(line)?;
    let key: PublicKey = key.parse().map_err(|error| format!("it holds no public key ({error})"))?;
    let mut from = None;
    for option in options {
        match option.split_once('=') {
            None if option == "restrict" => {}
            Some(("from", value)) => {
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                let value = value.ok_or_else(|| "the value of `from` needs quotes: from=\"10.0.0.0/8\"".to_owned())?;
                let patterns: Vec<String> = value.split(',').map(|part| part.trim().to_owned()).collect();
                for pattern in &patterns {
                    let bare = pattern.strip_prefix('!').unwrap_or(pattern);
                    let good = match bare.split_once('/') {
                        Some((network, bits)) => network
                            .parse::<IpAddr>()
                            .is_ok_and(|network| in_network(network, &network.to_string(), bits).is_some()),
                        None => !bare.is_empty(),
                    };
                    if !good {
                        return Err(format!("`{pattern}` in `from` is no address, pattern or network"));
                    }
                }
                from = Some(patterns);
            }
            _ => return Err(format!("the option `{option}` is not supported; `from` and `restrict` are")),
        }
    }
    let comment = key.comment().to_string();
    let name =
        if comment.is_empty() { key.fingerprint(russh::keys::ssh_key::HashAlg::Sha256).to_string() } else { comment };
    Ok(Issuer { key, name, from })
}

/// Splits the options, if the line begins with some, from the key: at the first space outside of quotes.
fn split_options(line: &str) -> Result<(Vec<&str>, &str), String> {
    let first = line.split_whitespace().next().ok_or_else(|| "it is empty".to_owned())?;
    if ["ssh-", "ecdsa-", "sk-", "rsa-"].iter().any(|start| first.starts_with(start)) {
        return Ok((Vec::new(), line));
    }
    let mut quoted = false;
    let mut options = Vec::new();
    let mut start = 0;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' | ' ' | '\t' if !quoted => {
                options.push(line.get(start..at).unwrap_or_default());
                start = at + 1;
                if c != ',' {
                    return Ok((options, line.get(start..).unwrap_or_default().trim_start()));
                }
            }
            _ => {}
        }
    }
    Err("it holds no public key; a line looks like: ssh-ed25519 AAAA… name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &str, comment: &str) -> String {
        let mut key = crate::ssh::new_key("").public_key().clone();
        key.set_comment(comment);
        format!("{options}{}", key.to_openssh().unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_with_and_without_options_are_parsed() {
        assert_eq!(parse(&line("", "stackferry@backup1")).unwrap().name, "stackferry@backup1");
        assert!(parse(&line("", "")).unwrap().name.starts_with("SHA256:"));
        let issuer = parse(&line("from=\"10.0.0.0/8,192.168.1.?,!10.1.*\",restrict ", "")).unwrap();
        for (address, expected) in [
            ("10.2.3.4", true),
            ("10.1.3.4", false),
            ("192.168.1.7", true),
            ("192.168.1.77", false),
            ("::ffff:10.2.0.1", true),
            ("::1", false),
        ] {
            assert_eq!(issuer.may_come_from(ip(address)), expected, "{address}");
        }
        assert!(parse(&line("from=\"fe80::/10\" ", "x y")).unwrap().may_come_from(ip("fe80::1")));
        assert!(parse(&line("", "")).unwrap().may_come_from(ip("203.0.113.1")));
    }

    #[test]
    fn invalid_lines_are_refused() {
        for bad in [
            "",
            "ssh-ed25519",
            "hello",
            "from=\"10.0.0.1\"",
            &line("from=10.0.0.1 ", ""),
            &line("command=\"x\" ", ""),
            &line("from=\"10.0.0.0/33\" ", ""),
            &line("from=\"\" ", ""),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
