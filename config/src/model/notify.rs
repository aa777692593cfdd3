//! `[notify]`: who is told by a webhook or by mail when something is wrong. Without the section nobody is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::value::{AbsPath, CertificateFingerprint, DayTime, HostPort, MailAddress, MailServer, Name, Period, WebUrl};

/// `[notify]`: who is told what is wrong, and that it is right again. Default: nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// What comes and goes by itself (a host that is away, an overdue volume) is told when it has lasted this long, and its
    /// end when it has stayed away this long. Default 15 minutes.
    pub settle: Period,
    /// Messages about problems of one kind are this far apart at least; what comes meanwhile is told together. Default 1
    /// hour.
    pub apart: Period,
    /// A web address that is told. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// People who are told by mail. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            settle: Period::seconds_unchecked(15 * 60),
            apart: Period::seconds_unchecked(3600),
            webhook: None,
            mail: None,
        }
    }
}

impl Notify {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nobody is told.
    pub fn is_off(&self) -> bool {
        self.webhook.is_none() && self.mail.is_none()
    }
}

/// When a digest is sent that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum DigestWhen {
    /// Only while something is wrong.
    Problems,
    /// Always: then its absence tells that nothing works any more.
    #[default]
    Always,
}

/// `[notify.webhook]`: an HTTPS address that takes JSON by POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its address, where that is no secret. Plain http to this machine itself only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<WebUrl>,
    /// The reference to its address, where whoever knows it may post there (Slack, Teams).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_url: Option<SecretRef>,
    /// The reference to a token, which is sent as `Authorization: Bearer`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// A PEM file with the authorities that are trusted instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
    /// The only certificate that is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<CertificateFingerprint>,
    /// The local time of day at which it is sent a digest. Default: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DayTime>,
    /// When the digest is sent. Default `always`.
    #[serde(default)]
    pub when: DigestWhen,
}

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MailTls {
    /// It begins plain and has to be encrypted by STARTTLS before anything is told.
    #[default]
    Starttls,
    /// It is encrypted from its first byte.
    Tls,
    /// Not at all: only to this machine itself.
    None,
}

impl MailTls {
    /// The usual port: RFC 6409 (587), RFC 8314 (465), RFC 5321 (25).
    pub const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// `[notify.mail]`: a mail server, and who gets mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The mail server that takes the messages, with or without a port. Default port 587, with `tls = "tls"` 465, with
    /// `"none"` 25.
    pub server: MailServer,
    /// How the connection is encrypted. Default `starttls`.
    #[serde(default)]
    pub tls: MailTls,
    /// A PEM file with the authorities that are trusted instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
    /// The only certificate that is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<CertificateFingerprint>,
    /// Who logs in there. Default: nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// The reference to the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Whom the mail is from.
    pub from: MailAddress,
    /// Who gets it, 1 to 50 addresses.
    #[schemars(length(min = 1, max = 50))]
    pub to: Vec<MailAddress>,
    /// Send a mail for what becomes wrong and right again, too, not only the digest. Default yes.
    #[serde(default = "yes")]
    pub each: bool,
    /// The local time of day of the digest. Default 07:00.
    #[serde(default)]
    pub at: DayTime,
    /// When the digest is sent. Default `always`.
    #[serde(default)]
    pub when: DigestWhen,
}

const fn yes() -> bool {
    true
}

impl Mail {
    /// Most addresses of `to`: a list of the mail server's own serves more people better.
    pub const MOST_TO: usize = 50;

    /// Where the mail server is reached.
    pub fn address(&self) -> HostPort {
        self.server.or_port(self.tls.port())
    }
}
