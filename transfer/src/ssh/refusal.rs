//! What a host tells of itself while it refuses a login: the protocol says more than «no».

use russh::MethodSet;

/// What was said until a login was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was shown was right, and is not enough: the host wants a second factor.
    pub(crate) is_partial: bool,
    /// By which methods the host would go on.
    pub(crate) methods: Vec<&'static str>,
    /// Its words when it ended the connection.
    pub(crate) farewell: Option<String>,
    /// Its words before the login.
    pub(crate) banner: Option<String>,
    /// The version of its SSH server: `SSH-2.0-OpenSSH_9.2p1`.
    pub(crate) version: String,
}

pub(super) fn method_names(methods: &MethodSet) -> Vec<&'static str> {
    methods.iter().map(<&'static str>::from).collect()
}

impl Refusal {
    /// What the host said, as sentences.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(farewell) = &self.farewell {
            words.push(format!("the host says: {farewell}"));
        }
        let methods = if self.methods.is_empty() { "nothing more".to_owned() } else { self.methods.join(", ") };
        if self.is_partial {
            words.push(format!(
                "it took this, and wants a second factor, which no service has: {methods}. Let this user in by one method \
                 alone (`Match User …` and `AuthenticationMethods publickey` in its sshd_config)"
            ));
        } else if self.farewell.is_none() {
            words.push(format!("it would take: {methods}"));
        }
        if let Some(banner) = &self.banner {
            words.push(format!("before the login it says: {banner}"));
        }
        words
    }

    /// Whether it takes keys at all; one that ended the connection did not say.
    pub(crate) fn takes_keys(&self) -> bool {
        self.methods.is_empty() || self.methods.contains(&"publickey")
    }

    /// A server that has no certificates, whatever is done at the host.
    pub(crate) fn is_dropbear(&self) -> bool {
        self.version.to_ascii_lowercase().contains("dropbear")
    }

    /// Its server, as it names itself.
    pub(crate) fn server(&self) -> &str {
        self.version.strip_prefix("SSH-2.0-").unwrap_or(&self.version)
    }
}
