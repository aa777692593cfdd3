//! Every code that a problem can have, with its meaning, what to do, and its exit code: one table, from which the
//! document `docs/troubleshooting.md` is made. Codes are added, never renamed.

use std::fmt;
use std::process::ExitCode;

use serde::{Serialize, Serializer};
use stackferry_https::Retry;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// All was done.
    Done,
    /// It failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Some volumes failed or were deferred.
    Partly,
    /// There is no such volume or version.
    NotFound,
    /// Somebody else is working on it.
    Busy,
    /// A login was refused.
    LoginRefused,
    /// A host's key is unknown or changed.
    HostKey,
    /// Bytes are not what they should be.
    VerifyFailed,
    /// There is too little space.
    NoSpace,
    /// It was interrupted.
    Interrupted,
}

impl Exit {
    /// Every way, in the order of the numbers.
    pub const ALL: [Exit; 11] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Partly,
        Exit::NotFound,
        Exit::Busy,
        Exit::LoginRefused,
        Exit::HostKey,
        Exit::VerifyFailed,
        Exit::NoSpace,
        Exit::Interrupted,
    ];

    /// The process's exit code. Part of the contract.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
            Exit::NotFound => 10,
            Exit::Busy => 11,
            Exit::LoginRefused => 12,
            Exit::HostKey => 13,
            Exit::VerifyFailed => 14,
            Exit::NoSpace => 15,
            Exit::Interrupted => 130,
        }
    }

    /// What it says, for help texts and documents.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "wrong usage or configuration",
            Exit::Partly => "partly done: some volumes failed or were deferred",
            Exit::NotFound => "no such volume or version",
            Exit::Busy => "busy: somebody else is working on it",
            Exit::LoginRefused => "a login was refused",
            Exit::HostKey => "a host key is unknown or changed",
            Exit::VerifyFailed => "verification failed: bytes are not what they should be",
            Exit::NoSpace => "no space",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// What is known of a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeRow {
    /// The code.
    pub code: Code,
    /// The word for it, in JSON, logs and metrics.
    pub word: &'static str,
    /// How a command ends with it.
    pub exit: Exit,
    /// Whether trying again as it is may help, where the error itself does not say.
    pub retry: Retry,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($name:ident $word:literal $exit:ident $retry:ident $meaning:literal $fix:literal;)+) => {
        /// A problem's stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $name,)+
        }

        /// Every code with what is known of it.
        pub const PROBLEMS: &[CodeRow] = &[$(CodeRow {
            code: Code::$name,
            word: $word,
            exit: Exit::$exit,
            retry: Retry::$retry,
            meaning: $meaning,
            fix: $fix,
        },)+];

        impl Code {
            /// The word used in JSON, logs, metrics and the catalog.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)+
                }
            }

            /// How a command ends with it.
            #[must_use]
            pub const fn exit(self) -> Exit {
                match self {
                    $(Code::$name => Exit::$exit,)+
                }
            }

            /// Whether trying again as it is may help, where the error itself does not say.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Code::$name => Retry::$retry,)+
                }
            }
        }
    };
}

codes! {
    Usage "usage" Usage Permanent
        "The command line can't be understood."
        "See `stackferry help COMMAND`.";
    BadConfig "bad_config" Usage Permanent
        "The configuration is missing, can't be read, or says something wrong."
        "The message names file, line and column. Correct it and run `stackferry check --config-only`.";
    SecretUnavailable "secret_unavailable" Usage Permanent
        "A password that the configuration refers to can't be had."
        "Check the file, credential, command or variable that the message names, as the service's user.";
    BadKey "bad_key" Usage Permanent
        "A private key of ours can't be used."
        "It must be an OpenSSH private key without a passphrase that only the service's user may read.";
    NoSuchVolume "no_such_volume" NotFound Permanent
        "No volume has this id, name, owner or GUID."
        "`stackferry volumes` lists the known ones, `stackferry discover` looks for new ones.";
    AmbiguousVolume "ambiguous_volume" NotFound Permanent
        "Several volumes fit the name, owner or GUID."
        "Name one of them by its id, as the hint lists them.";
    NoSuchVersion "no_such_version" NotFound Permanent
        "The volume has no such version, or none at all."
        "`stackferry versions VOLUME` lists them.";
    NoSuchJob "no_such_job" NotFound Permanent
        "There is no job of this number."
        "`stackferry jobs --all` lists them; jobs that ended are forgotten after 30 days.";
    NoSuchFile "no_such_file" NotFound Permanent
        "The volume or version has no file of this name."
        "Leave `--file` away for the disk itself.";
    NoSuchToken "no_such_token" NotFound Permanent
        "No token of this name is in use."
        "`stackferry token list` lists them.";
    Unauthorized "unauthorized" LoginRefused Permanent
        "Who calls the API did not show a token that is in use."
        "Send `Authorization: Bearer TOKEN`. An administrator makes one with `stackferry token create`; it is shown once.";
    Forbidden "forbidden" LoginRefused Permanent
        "The caller's role may not do this, whether the named object exists or not."
        "Ask an administrator for a token with the role that the message names. See docs/api.md.";
    NoSuchPage "no_such_page" NotFound Permanent
        "The service has nothing at this address."
        "docs/api.md and `/api/v1/openapi.json` list what there is.";
    WrongMethod "wrong_method" Usage Permanent
        "What is at this address does not take this method."
        "The answer's header `Allow` lists those that it takes; so does `/api/v1/openapi.json`.";
    TooSlow "too_slow" Failed Transient
        "A request took too long to arrive."
        "Try again. If it comes back, look for what holds up or loses packets between the caller and the service.";
    TooLarge "too_large" Usage Permanent
        "A request is larger than any that makes sense."
        "Send less.";
    Overloaded "overloaded" Busy Transient
        "The service answers as many requests as it can, or could not answer this one in time."
        "Try again in a few seconds.";
    NotProtectable "not_protectable" Failed Permanent
        "The volume can't be copied as it is: a disk that is no file, a descriptor that can't be believed, a name that can't be stored."
        "The hint says what to change at the source; `stackferry discover` shows the same for all volumes.";
    Deferred "deferred" Partly Transient
        "The volume is postponed: attached, locked, moving, or outside the window."
        "Nothing: it is tried again in the next round. `stackferry discover` shows since when and why.";
    Busy "busy" Busy Busy
        "Somebody else works on the same thing; the message names who, where and until when."
        "Wait, or give a longer `--wait`. A holder that died is noticed within 30 seconds.";
    LeaseLost "lease_lost" Busy Transient
        "Another process took the volume over while this one was stopped or cut off. It makes the version; this one made none."
        "Nothing. If it happens often, look for a machine that is suspended or whose clock jumps.";
    LoginRefused "login_refused" LoginRefused Permanent
        "A host does not let us in."
        "The hint has what the host itself said, and the causes in the order in which they are met. On an endpoint the service's public key belongs into `serve.issuers`; with route `ssh` the CA belongs into the user's `authorized_keys`, the clocks agree, and no second factor is asked for.";
    CredentialSpent "credential_spent" LoginRefused Permanent
        "A one-time credential was used, has expired or was revoked."
        "Ask for a new one.";
    HostKeyUnknown "host_key_unknown" HostKey Permanent
        "A host shows a key that is in no list of known ones, or that of another type than the list has. No login was tried."
        "Compare the fingerprint with the one shown at the host's own console, then add the line from the hint to `known_hosts`.";
    HostKeyChanged "host_key_changed" HostKey Permanent
        "A host shows another key than the one that is known: it was set up anew, or somebody stands in between. No login was tried."
        "Ask who changed the host. Only if the new fingerprint is right, replace the line that the message names.";
    CertificateRefused "certificate_refused" HostKey Permanent
        "An App Volumes Manager, a vCenter or a host shows a certificate that is not trusted. No password was sent."
        "Compare the fingerprint in the message with that of the certificate on the system itself. Only if they are the same: write it as `fingerprint`, or name its authority's file as `ca`.";
    KnownHostsUnusable "known_hosts_unusable" HostKey Permanent
        "A list of known host keys can't be read at all (UTF-16?), or revokes the key that a host shows."
        "Correct the file and line that the message names. A revoked key is never accepted.";
    Damaged "damaged" VerifyFailed Permanent
        "A version's bytes or its manifest are not what was committed."
        "Use another version and copy the volume again. Look for failing disks below the vault.";
    BlockMismatch "block_mismatch" VerifyFailed Transient
        "A block arrived with other bytes than its digest says. The copy was thrown away."
        "It is tried again. If it comes back: failing memory or disk at the source host, or a broken network card.";
    RecordDamaged "record_damaged" Failed Permanent
        "What the vault notes of itself or of a volume can't be believed. Versions are not touched."
        "Put the file back from another backup, or move it away: it is made anew from the versions.";
    NoSpace "no_space" NoSpace Permanent
        "Too little space: the copy or restore was not begun, or stopped before anything became visible."
        "Make the file system larger or free some of it; for the vault, `vault.reserve` says what is kept free.";
    FileTooLong "file_too_long" Failed Permanent
        "A file is longer than its file system, or a limit of the process, allows. Nothing of it is left."
        "Restore to, or keep the vault on, a file system that holds longer files: FAT ends at 4 GiB, ext4 with blocks of 1 KiB at 4 TiB. See `ulimit -f` and `LimitFSIZE=`, too.";
    VaultMissing "vault_missing" Failed Permanent
        "The vault that is known is not at its path: the folder is missing or empty."
        "Is it mounted? Mount it. Nothing is written into the empty folder below a mount point.";
    NoVault "no_vault" Failed Permanent
        "There is no vault at this path, and this command does not make one."
        "Check `vault.path`; an empty folder becomes a vault at the service's first start.";
    NotAVault "not_a_vault" Failed Permanent
        "The folder holds other files and is no vault."
        "Give an empty folder, or the one that holds `stackferry-vault.json`.";
    OtherVault "other_vault" Failed Permanent
        "The folder holds another vault than the one that this catalog belongs to."
        "Correct `vault.path` or `state_dir`. To adopt this vault start with an empty `state_dir`.";
    NewerFormat "newer_format" Failed Permanent
        "A newer Stackferry wrote the vault or the catalog."
        "Use that newer program.";
    TwoFileSystems "two_file_systems" Failed Permanent
        "Parts of the vault lie on different file systems, so that no version could be committed at once."
        "Mount the file system at the vault's folder itself, not at a folder in it.";
    VaultReadOnly "vault_read_only" Failed Permanent
        "The vault is open for reading only."
        "Run the command as the service's user, with the service's configuration.";
    VersionProtected "version_protected" Failed Permanent
        "The version is pinned, locked, or the last good one of its generation, and is not deleted."
        "Unpin it, wait until the lock ends, or make a newer version first.";
    VaultConflict "vault_conflict" Failed Permanent
        "The vault knows the volume as something else than what it is now said to be."
        "Look at the volume's `volume.json` and at its GUID in App Volumes; two disks may have one name.";
    IncompleteCopy "incomplete_copy" Failed Transient
        "What was written does not agree with what was to be committed. No version was made."
        "Copy it again. If it comes back it is a defect: report it with the log.";
    VaultFailed "vault_failed" Failed Permanent
        "The vault's file system failed."
        "The message has the system's own words. Look at the kernel log and the state of the disk or mount.";
    Exists "exists" Failed Permanent
        "A file of this name is there. It was not touched."
        "Restore into an empty folder, or allow it with `--overwrite`.";
    PermissionDenied "permission_denied" Failed Permanent
        "The system does not let this user do it."
        "Check who owns the path and which user runs this; a file system may be mounted read-only.";
    CatalogUnusable "catalog_unusable" Failed Permanent
        "The catalog can't be made or is not there."
        "Check that `state_dir` exists and who owns it.";
    CatalogDamaged "catalog_damaged" Failed Permanent
        "The catalog is damaged. Versions are in the vault and are not touched."
        "Stop the service, move the catalog's files away and run `stackferry rebuild`.";
    CatalogOutdated "catalog_outdated" Failed Permanent
        "An older Stackferry wrote the catalog, and it is open for reading only."
        "Start the service once, or run the command as the catalog's owner.";
    CatalogFailed "catalog_failed" Failed Permanent
        "The database refused or failed."
        "The message has the database's own words. Check the space and the owner of `state_dir`.";
    SourceChanged "source_changed" Failed Transient
        "The volume changed while it was copied. The copy was thrown away."
        "It is tried again. If it comes back, something writes to the volume: is it attached?";
    SourceMissing "source_missing" Failed Permanent
        "A file or folder of the source is not there."
        "Has it been deleted or moved? `stackferry discover` looks again. Versions are kept.";
    SourceUnreadable "source_unreadable" Failed Transient
        "Reading from the datastore failed."
        "It is tried again. The message has the system's own words: look at the mount and the storage.";
    SourceRefused "source_refused" Failed Permanent
        "A path of the source is a symbolic link, leaves the datastore, or is no plain file. It is never followed."
        "Remove it from the volume's folder, or correct the datastore's `path` or `folders`.";
    TooManyEntries "too_many_entries" Failed Permanent
        "A folder of the datastore holds more entries than are taken on."
        "Name narrower `folders` for this datastore.";
    WriteFailed "write_failed" Failed Permanent
        "Writing the copy failed."
        "Look at the vault's disk or mount, and at the kernel log.";
    Unreachable "unreachable" Failed Transient
        "A host or datastore can't be reached, or the connection broke."
        "It is tried again. Check name, port, firewall and whether the service there runs; `stackferry check` tries all of them.";
    Silent "silent" Failed Transient
        "A host that was there says nothing any more."
        "It is tried again. Look at the host and the network between.";
    Protocol "protocol" Failed Permanent
        "A host said something that the protocol does not allow."
        "Is it the right host and port? If it is an endpoint: bring both sides to the same version.";
    Refused "refused" Failed Permanent
        "A host can't or won't do what was asked; the message has its words."
        "Look at the log of the host.";
    HostUnfit "host_unfit" Failed Permanent
        "A host lacks what the route needs: neither SFTP nor `scp`, no `find`, no POSIX shell for the user, no folder of the datastore."
        "The message names it; install or correct it there, or read the datastore by another route.";
    CannotListen "cannot_listen" Failed Permanent
        "The address to listen on can't be had."
        "Is the service running already, or does another program use the port? Ports below 1024 need the right to bind them.";
    IoFailed "io_failed" Failed Permanent
        "An operation of the system failed."
        "The message has the system's own words.";
    Interrupted "interrupted" Interrupted Transient
        "A person or the system asked for the end. What was copied so far is kept for the next try where the route allows it."
        "Run it again.";
    Internal "internal" Failed Transient
        "A defect of this program. Nothing half-made became visible."
        "Report it, with the log.";
    Failed "failed" Failed Permanent
        "Any other failure."
        "The message says what is known.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Code {
    /// The code of this word; none where there is no such one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        PROBLEMS.iter().find(|row| row.word == word).map(|row| row.code)
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.as_str().to_owned()
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text of `docs/troubleshooting.md`.
#[must_use]
pub fn troubleshooting() -> String {
    let mut text = String::from(
        "# Troubleshooting\n\n\
         Every error has a code. It stands below the message on a terminal, and as `error.code` in the last line on\n\
         stderr with `--output json`:\n\n\
         ```json\n\
         {\"error\":{\"code\":\"vault_missing\",\"message\":\"…\",\"subject\":\"/srv/stackferry\",\"hint\":\"…\"}}\n\
         ```\n\n\
         Codes are added, never renamed. This page is made from the program's own table.\n\n\
         ## Codes\n\n\
         | code | meaning | what to do | exit |\n\
         | --- | --- | --- | --- |\n",
    );
    for row in PROBLEMS {
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", row.word, row.meaning, row.fix, row.exit.code()));
    }
    text.push_str("\n## Exit codes\n\n| exit | meaning |\n| --- | --- |\n");
    for exit in Exit::ALL {
        text.push_str(&format!("| {} | {} |\n", exit.code(), exit.meaning()));
    }
    text
}
