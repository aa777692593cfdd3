//! One request of `/folder`, and the check of its response before a byte is used: the status, the part, and the file's whole
//! length, which has to be the one that discovery saw.

use std::ops::Range;

use stackferry_https::{HttpsClient, HttpsError, Request, StreamingResponse};
use stackferry_vsphere::VsphereError;

use crate::error::{DownloadFault, TransferError};
use crate::wait::POLL_INTERVAL;

/// A request for a part of a file.
pub(super) struct PartRequest<'a> {
    /// The host, for errors.
    pub(super) host: &'a str,
    /// The file, for errors.
    pub(super) file: &'a str,
    /// The bytes: never empty.
    pub(super) part: Range<u64>,
    /// The file's length in bytes.
    pub(super) bytes: u64,
}

/// The head of a response.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) status: u16,
    pub(super) content_type: Option<&'a str>,
    pub(super) content_range: Option<&'a str>,
    pub(super) content_length: Option<u64>,
}

impl PartRequest<'_> {
    pub(super) fn fault(&self, fault: DownloadFault) -> TransferError {
        TransferError::Download { host: self.host.to_owned(), file: self.file.to_owned(), fault }
    }

    fn changed(&self, what: String) -> TransferError {
        TransferError::SourceChanged { file: self.file.to_owned(), what }
    }

    /// Sends the request and checks the response's head. `cookie` is secret.
    pub(super) async fn begin(
        &self,
        web: &HttpsClient,
        path: &str,
        cookie: &str,
    ) -> Result<StreamingResponse, TransferError> {
        let length = self.part.end - self.part.start;
        let request = Request::get(path)
            .header("cookie", cookie)
            .header("range", &format!("bytes={}-{}", self.part.start, self.part.end - 1))
            .limit(length);
        let streaming = web.stream(request).await.map_err(|error| self.web(error))?;
        self.check(&Head {
            status: streaming.status(),
            content_type: streaming.content_type(),
            content_range: streaming.header("content-range"),
            content_length: streaming.content_length(),
        })?;
        Ok(streaming)
    }

    /// Checks that this is the head of the requested part.
    pub(super) fn check(&self, head: &Head<'_>) -> Result<(), TransferError> {
        let fault = match head.status {
            200 | 206 => return self.check_part(head),
            401 => DownloadFault::TicketRefused,
            403 => DownloadFault::Denied(Vec::new()),
            404 => DownloadFault::NotFound,
            416 => return Err(self.changed(format!("it ends before byte {}", self.part.start + 1))),
            500 => DownloadFault::Locked,
            status @ (429 | 502 | 503 | 504) => DownloadFault::NotReady(status),
            status => DownloadFault::Status(status),
        };
        Err(self.fault(fault))
    }

    fn check_part(&self, head: &Head<'_>) -> Result<(), TransferError> {
        let length = self.part.end - self.part.start;
        if head.content_type.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html")) {
            return Err(self.fault(DownloadFault::WebPage));
        }
        if head.status == 200 {
            return match head.content_length {
                _ if length < self.bytes => Err(self.fault(DownloadFault::NotPartial)),
                Some(length) if length == self.bytes => Ok(()),
                Some(length) => Err(self.changed(format!("its length was {} bytes and is {length}", self.bytes))),
                None => Err(self.fault(DownloadFault::NotPartial)),
            };
        }
        let wrong = |what: &str| Err(self.fault(DownloadFault::WrongPart(what.chars().take(100).collect())));
        let Some(text) = head.content_range else { return wrong("it does not say which") };
        let Some((part, total)) = content_range(text) else { return wrong(text) };
        if total != self.bytes {
            return Err(self.changed(format!("its length was {} bytes and is {total}", self.bytes)));
        }
        if part != self.part || head.content_length.is_some_and(|announced| announced != length) {
            return wrong(text);
        }
        Ok(())
    }

    pub(super) fn web(&self, error: HttpsError) -> TransferError {
        match error {
            HttpsError::TooLong { .. } => self.fault(DownloadFault::Long),
            other => VsphereError::from(other).into(),
        }
    }
}

/// The part and the whole length in `bytes 0-9/100` (RFC 9110, section 14.4).
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (part, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (first <= last && last < total).then_some((first..last + 1, total))
}

/// Waits until `doing` is done or the work has ended.
pub(super) async fn unless_ended<T>(
    ended: &dyn Fn() -> bool,
    doing: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    let mut doing = std::pin::pin!(doing);
    loop {
        if ended() {
            return Err(TransferError::Cancelled);
        }
        // `doing` is not restarted: it has a deadline of its own.
        if let Ok(done) = tokio::time::timeout(POLL_INTERVAL, &mut doing).await {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: PartRequest<'static> = PartRequest { host: "esx1", file: "a-flat.vmdk", part: 10..20, bytes: 100 };

    fn partial(range: &str) -> Head<'_> {
        Head { status: 206, content_range: Some(range), ..Head::default() }
    }

    fn fault(head: &Head<'_>) -> DownloadFault {
        match ASKED.check(head) {
            Err(TransferError::Download { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_requested_part_is_accepted() {
        ASKED.check(&partial("bytes 10-19/100")).unwrap();
        ASKED.check(&Head { content_length: Some(10), ..partial("bytes 10-19/100") }).unwrap();
        let whole = PartRequest { part: 0..100, ..ASKED };
        whole.check(&Head { status: 200, content_length: Some(100), ..Head::default() }).unwrap();
    }

    #[test]
    fn another_part_is_refused() {
        for range in [
            "bytes 10-18/100",
            "bytes 0-9/100",
            "bytes 10-19",
            "10-19/100",
            "bytes */100",
            "bytes 10-19/*",
            "bytes +10-19/100",
            "",
        ] {
            assert!(matches!(fault(&partial(range)), DownloadFault::WrongPart(_)), "{range}");
        }
        assert!(matches!(fault(&Head { status: 206, ..Head::default() }), DownloadFault::WrongPart(_)));
        let long = Head { content_length: Some(11), ..partial("bytes 10-19/100") };
        assert!(matches!(fault(&long), DownloadFault::WrongPart(_)));
        assert_eq!(
            fault(&Head { status: 200, content_length: Some(100), ..Head::default() }),
            DownloadFault::NotPartial
        );
        let page = Head { content_type: Some("Text/HTML; charset=utf-8"), ..partial("bytes 10-19/100") };
        assert_eq!(fault(&page), DownloadFault::WebPage);
    }

    #[test]
    fn another_length_is_a_change() {
        for head in [partial("bytes 10-19/101"), Head { status: 416, ..Head::default() }] {
            assert!(matches!(ASKED.check(&head), Err(TransferError::SourceChanged { .. })), "{head:?}");
        }
        let whole = PartRequest { part: 0..100, ..ASKED };
        let longer = Head { status: 200, content_length: Some(101), ..Head::default() };
        assert!(matches!(whole.check(&longer), Err(TransferError::SourceChanged { .. })));
        let untold = Head { status: 200, ..Head::default() };
        assert!(matches!(whole.check(&untold), Err(TransferError::Download { fault: DownloadFault::NotPartial, .. })));
    }

    #[test]
    fn each_status_has_its_own_fault() {
        for (status, expected) in [
            (401, DownloadFault::TicketRefused),
            (403, DownloadFault::Denied(Vec::new())),
            (404, DownloadFault::NotFound),
            (500, DownloadFault::Locked),
            (503, DownloadFault::NotReady(503)),
            (302, DownloadFault::Status(302)),
        ] {
            assert_eq!(fault(&Head { status, ..Head::default() }), expected);
        }
    }
}
