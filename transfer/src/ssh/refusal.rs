//! What a host reveals while it refuses a login.

use russh::MethodSet;

/// What a host sent until it refused a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The credential was right, but is not enough: the host wants a second factor.
    pub(crate) is_partial: bool,
    /// The methods by which the host would continue.
    pub(crate) methods: Vec<&'static str>,
    /// Its message when it ended the connection.
    pub(crate) farewell: Option<String>,
    /// Its banner before the login.
    pub(crate) banner: Option<String>,
    /// The version of its SSH server: `SSH-2.0-OpenSSH_9.2p1`.
    pub(crate) version: String,
}

pub(super) fn method_names(methods: &MethodSet) -> Vec<&'static str> {
    methods.iter().map(<&'static str>::from).collect()
}

impl Refusal {
    /// What the host sent, as sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(farewell) = &self.farewell {
            sentences.push(format!("the host says: {farewell}"));
        }
        let methods = if self.methods.is_empty() { "nothing more".to_owned() } else { self.methods.join(", ") };
        if self.is_partial {
            sentences.push(format!(
                "it accepted this, and wants a second factor, which a service does not have: {methods}. Let this user log in by one \
                 method alone (`Match User …` and `AuthenticationMethods publickey` in its sshd_config)"
            ));
        } else if self.farewell.is_none() {
            sentences.push(format!("it would accept: {methods}"));
        }
        if let Some(banner) = &self.banner {
            sentences.push(format!("its banner: {banner}"));
        }
        sentences
    }

    /// Whether it accepts keys at all; one that ended the connection did not say.
    pub(crate) fn accepts_keys(&self) -> bool {
        self.methods.is_empty() || self.methods.contains(&"publickey")
    }

    /// Whether this is Dropbear, which has no certificates.
    pub(crate) fn is_dropbear(&self) -> bool {
        self.version.to_ascii_lowercase().contains("dropbear")
    }

    /// The server's own name and version.
    pub(crate) fn server(&self) -> &str {
        self.version.strip_prefix("SSH-2.0-").unwrap_or(&self.version)
    }
}
