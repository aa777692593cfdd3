//! SCP's source side (`scp -f`), for stock clients: `scp -O` asks for it.

use std::sync::Arc;

use bytes::Bytes;
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use stackferry_volume::Source;

use super::Shared;
use super::grants::{Granted, Target};
use super::send::open;

/// The bytes read and sent at a time.
const PIECE: usize = 256 << 10;

/// Whether a command is the one that a client's `scp -O` sends to read this file: `scp`, options of which `-f` must be
/// one and `-t` and `-r` none, perhaps `--`, and the path, perhaps in single quotes. No shell is involved.
pub(super) fn is_for(command: &[u8], target: &Target) -> bool {
    let Some(rest) = std::str::from_utf8(command).ok().and_then(|command| command.strip_prefix("scp ")) else {
        return false;
    };
    let mut rest = rest.trim_start();
    let mut reads = false;
    while let Some(options) = rest.strip_prefix('-') {
        let (word, after) = options.split_once(' ').unwrap_or((options, ""));
        match word {
            "f" => reads = true,
            "-" => {
                rest = after.trim_start();
                break;
            }
            _ if !word.is_empty() && word.chars().all(|option| "fpqv".contains(option)) => reads |= word.contains('f'),
            _ => return false,
        }
        rest = after.trim_start();
    }
    let path = target.shown_path();
    reads && [path.clone(), format!("'{path}'"), crate::endpoint::scp::quoted(&path)].iter().any(|form| form == rest)
}

/// A path as one word of a POSIX shell: in single quotes, with each single quote taken out of them.
pub(crate) fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

pub(super) async fn serve(channel: Channel<Msg>, shared: Arc<Shared>, granted: Granted) {
    let (mut read, write) = channel.split();
    let status = match send(&mut read, &write, &shared, &granted).await {
        Ok(()) => 0,
        Err(None) => return,
        Err(Some(message)) => {
            tracing::warn!(user = granted.user, path = granted.target.shown_path(), "{message}");
            if write.data_bytes(Bytes::from(format!("\x02scp: {message}\n"))).await.is_err() {
                return;
            }
            1
        }
    };
    // The client may have hung up after the last byte; it has what it needs.
    let _ = write.exit_status(status).await;
    let _ = write.eof().await;
    let _ = write.close().await;
}

/// The error is what the client is told; none where it is gone.
async fn send(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    shared: &Arc<Shared>,
    granted: &Granted,
) -> Result<(), Option<String>> {
    let target = granted.target.clone();
    let opened = tokio::task::spawn_blocking({
        let shared = Arc::clone(shared);
        move || open(&shared, &target)
    });
    let source =
        opened.await.map_err(|_| Some("the endpoint failed".to_owned()))?.map_err(|error| Some(error.message))?;
    let source = Arc::new(source);
    acknowledged(read).await?;
    let path = &granted.target.path;
    let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
    put(write, Bytes::from(format!("C0400 {} {name}\n", source.bytes()))).await?;
    acknowledged(read).await?;
    let mut at = 0;
    while at < source.bytes() {
        let len = usize::try_from(source.bytes() - at).unwrap_or(PIECE).min(PIECE);
        let reading = tokio::task::spawn_blocking({
            let source = Arc::clone(&source);
            move || {
                let mut piece = vec![0u8; len];
                source.read_at(at, &mut piece).map(|()| piece)
            }
        });
        // The length was announced: what can't be read ends the connection, for there is no way to say so in between.
        let piece = reading.await.map_err(|_| None)?.map_err(|_| None)?;
        let sending = put(write, Bytes::from(piece));
        tokio::select! {
            sent = sending => sent?,
            () = hung_up(read) => return Err(None),
        }
        at += len as u64;
    }
    put(write, Bytes::from_static(b"\0")).await?;
    acknowledged(read).await
}

async fn put(write: &ChannelWriteHalf<Msg>, bytes: Bytes) -> Result<(), Option<String>> {
    write.data_bytes(bytes).await.map_err(|_| None)
}

/// Waits for the client's zero byte.
async fn acknowledged(read: &mut ChannelReadHalf) -> Result<(), Option<String>> {
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) if data.as_ref() == b"\0" => return Ok(()),
            Some(ChannelMsg::Data { .. }) => return Err(Some("the client said something else than go on".to_owned())),
            None | Some(ChannelMsg::Close | ChannelMsg::Eof) => return Err(None),
            Some(_) => {}
        }
    }
}

/// Ends when the client hangs up; drains what it says meanwhile.
async fn hung_up(read: &mut ChannelReadHalf) {
    while !matches!(read.wait().await, None | Some(ChannelMsg::Close | ChannelMsg::Eof)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_this_file_is_understood() {
        let target = Target { datastore: "nfs01".into(), path: "apps/it's a.vmdk".into(), identity: (0, 0) };
        for good in [
            "scp -f /nfs01/apps/it's a.vmdk",
            "scp -f '/nfs01/apps/it'\\''s a.vmdk'",
            "scp -q -p -f -- /nfs01/apps/it's a.vmdk",
            "scp -pf /nfs01/apps/it's a.vmdk",
        ] {
            assert!(is_for(good.as_bytes(), &target), "{good}");
        }
        for bad in [
            "scp -t /nfs01/apps/it's a.vmdk",
            "scp -f -t /nfs01/apps/it's a.vmdk",
            "scp -r -f /nfs01/apps/it's a.vmdk",
            "scp /nfs01/apps/it's a.vmdk",
            "scp -f /nfs01/apps/other.vmdk",
            "scp -f /nfs01/apps/it's a.vmdk /etc/passwd",
            "scp -f /nfs01/apps/it's a.vmdk; id",
            "sh -c id",
            "",
        ] {
            assert!(!is_for(bad.as_bytes(), &target), "{bad}");
        }
    }
}
