//! Problems of sources, hosts and transfers.

use stackferry_https::Retry;
use stackferry_transfer::endpoint::EndpointError;
use stackferry_transfer::{DownloadFault, TransferError};
use stackferry_volume::FolderError;
use stackferry_volume::descriptor::DescriptorError;

use super::{Code, DEFECT, Problem};

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Self {
        let retry = error.retry();
        describe(error).retry(retry)
    }
}

fn describe(error: TransferError) -> Problem {
    let error = match error {
        TransferError::Folder(error) => return error.into(),
        TransferError::Vsphere(error) => return error.into(),
        error => error,
    };
    let plain = |code| Problem::of(code, &error);
    match &error {
        TransferError::Read { file, .. } => plain(Code::SourceUnreadable)
            .subject(file)
            .hint("look at the datastore's mount and storage; it is tried again"),
        TransferError::Write { file, .. } if error.is_no_space() => {
            plain(Code::NoSpace).subject(file).hint("make space on the vault's file system, then copy again")
        }
        TransferError::Write { file, source } if source.kind() == std::io::ErrorKind::FileTooLarge => plain(Code::FileTooLong)
            .subject(file)
            .hint("the vault's file system can't hold files so long, or the process may not write them: see `ulimit -f`"),
        TransferError::Write { file, .. } => {
            plain(Code::WriteFailed).subject(file).hint("look at the vault's disk or mount, and at the kernel log")
        }
        TransferError::SourceChanged { file, .. } => plain(Code::SourceChanged)
            .subject(file)
            .hint("the copy was thrown away and is tried again; if it comes back: is the volume attached?"),
        TransferError::BlockMismatch { host, .. } => plain(Code::BlockMismatch).subject(host).hint(
            "the copy was thrown away and is tried again; if it comes back: look for failing memory or disks there",
        ),
        TransferError::Unfit { host, hint, .. } => plain(Code::HostUnfit).subject(host).hint(hint),
        TransferError::Protocol { host, .. } => plain(Code::Protocol).subject(host).hint(
            "is it the right host and port? An endpoint has to be of this program's version; of another host the log \
                 of its SSH server says more",
        ),
        TransferError::Refused { host, code, .. } => refused(&error, host, code),
        TransferError::HostKeyUnknown { host, key, fingerprint, .. } => {
            plain(Code::HostKeyUnknown).subject(host).hint(format!(
                "at the console of the host compare its fingerprint (ssh-keygen -lf FILE.pub of its host key) with\n\
                 {fingerprint}\n\
                 and only if they are the same, add this line to the file `known_hosts` of this datastore:\n\
                 {key}"
            ))
        }
        TransferError::HostKeyChanged { host, shown, expected, place } => {
            plain(Code::HostKeyChanged).subject(host).hint(format!(
                "somebody may stand in between: ask who set the host up anew, and compare at its console\n\
                 shown now: {shown}\n\
                 expected:  {expected}\n\
                 only if the new one is right, replace the key at {place}"
            ))
        }
        TransferError::KnownHosts { place, .. } => plain(Code::KnownHostsUnusable)
            .subject(place)
            .hint("correct or remove that line; without a list that can be read no host is trusted"),
        TransferError::HostKeyRevoked { host, .. } => plain(Code::KnownHostsUnusable)
            .subject(host)
            .hint("a revoked key is never accepted: give the host a new key, and add that to the list"),
        TransferError::Key { path, .. } => plain(Code::BadKey)
            .subject(path)
            .hint("it must be an OpenSSH private key without a passphrase (ssh-keygen -t ed25519 -N ''), mode 0600"),
        TransferError::LoginRefused { host, hint, .. } => {
            plain(Code::LoginRefused).subject(host).hint(format!("{hint}; the log of its SSH server says more"))
        }
        TransferError::Unreachable { host, .. } => plain(Code::Unreachable).subject(host).hint(
            "check name, port and firewall, and that the service there runs; `stackferry check` tries every host",
        ),
        TransferError::Stalled { host, .. } => {
            plain(Code::Silent).subject(host).hint("look at the host and the network between; it is tried again")
        }
        TransferError::Download { host, file, fault } => {
            let (code, subject) = match fault {
                DownloadFault::TicketRefused => (Code::LoginRefused, host),
                DownloadFault::Denied(_) => (Code::PermissionDenied, host),
                DownloadFault::NotFound => (Code::SourceMissing, file),
                DownloadFault::Locked => (Code::SourceUnreadable, file),
                DownloadFault::NotReady(_) => (Code::Unreachable, host),
                DownloadFault::Short { .. } => (Code::Unreachable, host),
                _ => (Code::Protocol, host),
            };
            plain(code).subject(subject).hint(fault.hint())
        }
        TransferError::Exists { file, .. } => plain(Code::Exists)
            .subject(file)
            .hint("restore beside it, under a folder of its own, and exchange the files by hand"),
        TransferError::NoRoom { file, .. } => {
            plain(Code::NoSpace).subject(file).hint("make room on the datastore, or name another one")
        }
        TransferError::NotAllowed { datastore, .. } => plain(Code::Refused).subject(datastore).hint(format!(
            "on that machine name {datastore} in `restore` of [serve] and start `stackferry serve` of this version again; or \
             restore with --to DIR, and copy the files from there"
        )),
        TransferError::Arrived { host, .. } => plain(Code::BlockMismatch)
            .subject(host)
            .hint("nothing was left there; if it comes back: look for failing memory or disks there"),
        TransferError::VersionDamaged { file, .. } => plain(Code::Damaged)
            .subject(file)
            .hint("restore another version, and look for failing disks below the vault"),
        TransferError::Cancelled => plain(Code::Interrupted),
        TransferError::Worker { file } => plain(Code::Internal).subject(file).hint(DEFECT),
        _ => plain(Code::Failed),
    }
}

/// What a peer refused, by its own code for it.
fn refused(error: &TransferError, host: &str, code: &str) -> Problem {
    let of = |code, hint: &str| Problem::of(code, error).subject(host).hint(hint);
    match code {
        "busy" => of(Code::Busy, "try again in a moment"),
        "denied" => of(Code::PermissionDenied, "let the user that stackferry runs as there read the datastore's files"),
        "not_found" => of(Code::SourceMissing, "`stackferry discover` looks again for where the volume lies"),
        "unreachable" => of(Code::Unreachable, "is the datastore mounted there? See `serve.datastores` on that host"),
        "too_many" => of(Code::TooManyEntries, "name narrower `folders` for this datastore"),
        "refused" => of(Code::SourceRefused, "it is a symbolic link, or no plain file: look at it there"),
        _ => of(Code::Refused, "the log of the host says why"),
    }
}

impl From<FolderError> for Problem {
    fn from(error: FolderError) -> Self {
        let of = |code, subject: &str, hint: &str| Problem::of(code, &error).subject(subject).hint(hint);
        match &error {
            FolderError::NotFound { path } => {
                of(Code::SourceMissing, path, "check the datastore's `path` and `folders`, and that it is mounted")
            }
            FolderError::Denied { path } => of(
                Code::PermissionDenied,
                path,
                "let the user that stackferry runs as read it; on NFS, look at root_squash",
            ),
            FolderError::Refused { path, .. } => {
                of(Code::SourceRefused, path, "links and special files are never followed: look at it there")
            }
            FolderError::TooMany { path, .. } => {
                of(Code::TooManyEntries, path, "name narrower `folders` for this datastore")
            }
            FolderError::Unreachable { datastore, .. } => {
                of(Code::Unreachable, datastore, "`stackferry check` tries every datastore and says what to do")
                    .retry(Retry::Transient)
            }
            FolderError::Io { path, .. } => {
                of(Code::SourceUnreadable, path, "look at the datastore's mount and storage").retry(Retry::Transient)
            }
            _ => Problem::of(Code::Failed, &error),
        }
    }
}

impl From<DescriptorError> for Problem {
    fn from(error: DescriptorError) -> Self {
        let remedy = error.unprotectable().remedy;
        let remedy =
            remedy.unwrap_or_else(|| "`stackferry discover` lists every volume with what is known of it".into());
        Self::of(Code::NotProtectable, &error).subject(&error.file).hint(remedy)
    }
}

impl From<EndpointError> for Problem {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::HostKey(error) => error.into(),
            EndpointError::Listen { address, .. } => Self::of(Code::CannotListen, &error)
                .subject(address)
                .hint("is it running already, or does another program use the port? See `serve.listen`"),
            EndpointError::Issuer { .. } => Self::of(Code::BadConfig, &error)
                .subject("serve.issuers")
                .hint("a line is a service's public key: ssh-ed25519 AAAA… NAME"),
            error => Self::of(Code::Failed, &error),
        }
    }
}
