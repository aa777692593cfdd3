//! Sends a message to an HTTPS address. Only the head of the answer is read: its status says whether the message was taken,
//! and whatever follows can hold up nothing. No redirect is followed: the token and the names go where the
//! configuration says, or nowhere. The address may be a secret: it is in no error and in no log.

use std::time::Duration;

use stackferry_config::{SecretRef, WebUrl, Webhook};
use stackferry_https::{HttpsClient, Request, Trust};

use super::failure::SendFailure;
use super::message::Message;
use stackferry_engine::blocking::blocking;
use stackferry_problem::{Code, Problem, Retry};

/// How errors call it.
const NAME: &str = "the webhook";
/// The longest address, in bytes.
const LONGEST: usize = 4096;

/// Where it is posted to: scheme, host and port, then path and query.
struct Address {
    base: String,
    path: String,
}

/// Sends a message, within this time.
pub(super) async fn send(settings: &Webhook, message: &Message, within: Duration) -> Result<(), SendFailure> {
    let body = serde_json::to_vec(message).map_err(|error| Problem::internal(format!("no JSON: {error}")))?;
    let (address, token) = resolved(settings).await?;
    let client =
        HttpsClient::new(NAME, &address.base, Trust::new(settings.ca.as_deref(), settings.fingerprint.map(Into::into)))
            .map_err(Problem::from)?;
    let mut request = Request::post(address.path, "application/json", body)
        .timeout(within)
        .header("accept", "*/*")
        .header("idempotency-key", &message.id);
    if let Some(token) = token {
        request = request.header("authorization", &format!("Bearer {}", token.expose()));
    }
    let answer = client.stream(request).await.map_err(Problem::from)?;
    judge(answer.status())
}

/// Fetches what is kept by reference, and looks at it.
async fn resolved(settings: &Webhook) -> Result<(Address, Option<stackferry_config::Secret>), Problem> {
    let (url, secret_url, token) = (settings.url.clone(), settings.secret_url.clone(), settings.token.clone());
    blocking(move || {
        let address = match (&url, &secret_url) {
            (Some(url), _) => split(url.as_str())?,
            (None, Some(secret)) => split(secret.resolve()?.expose().trim())?,
            (None, None) => return Err(Problem::new(Code::BadConfig, "the webhook has no address")),
        };
        let token = token.as_ref().map(SecretRef::resolve).transpose()?;
        Ok((address, token))
    })
    .await?
}

/// Whether all that it needs is there, without sending anything.
///
/// # Errors
/// A secret can't be had, the address is none, or the authorities can't be read. Blocks.
pub(super) fn check(settings: &Webhook) -> Result<(), Problem> {
    let address = match (&settings.url, &settings.secret_url) {
        (Some(url), _) => split(url.as_str())?,
        (None, Some(secret)) => split(secret.resolve()?.expose().trim())?,
        (None, None) => return Err(Problem::new(Code::BadConfig, "the webhook has no address")),
    };
    settings.token.as_ref().map(SecretRef::resolve).transpose()?;
    HttpsClient::new(NAME, &address.base, Trust::new(settings.ca.as_deref(), settings.fingerprint.map(Into::into)))
        .map_err(Problem::from)?;
    Ok(())
}

/// Takes an address apart. Its error repeats nothing of it.
fn split(url: &str) -> Result<Address, Problem> {
    let wrong = |why: String| {
        Problem::new(Code::BadConfig, format!("the webhook's address {why}"))
            .subject("notify.webhook")
            .hint("the secret holds the whole address and nothing else, as https://host.example.com/path?query")
    };
    let cut = url.find("://").map(|at| at + 3).unwrap_or_default();
    let end = url.get(cut..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| cut + at);
    let (base, rest) = url.split_at_checked(end).unwrap_or((url, ""));
    base.parse::<WebUrl>().map_err(|error| wrong(error.text().replacen("the address ", "", 1)))?;
    if url.len() > LONGEST || rest.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(wrong("has characters that are in no address".to_owned()));
    }
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    Ok(Address { base: base.to_owned(), path })
}

/// What the answer's status says.
fn judge(status: u16) -> Result<(), SendFailure> {
    let said = |code, what: &str, hint: &str| {
        Problem::new(code, format!("{NAME} answered {status}{what}")).subject("notify.webhook").hint(hint)
    };
    let busy = "look at the receiver's own log; the message is sent again";
    Err(match status {
        200..=299 => return Ok(()),
        300..=399 => said(
            Code::Refused,
            ", which leads elsewhere",
            "give the address where it leads to: redirects are not followed",
        )
        .into(),
        401 | 403 | 407 => {
            let hint =
                "correct its `token`, or the address where that is the secret; `stackferry notify test` tries it";
            said(Code::LoginRefused, ": it does not let us in", hint).into()
        }
        404 | 410 => said(Code::Refused, ": there is nothing", "is the address still right?").into(),
        400 | 413 | 415 | 422 => SendFailure {
            problem: said(
                Code::Refused,
                ": it does not take this message",
                "docs/notifications.md has the message's shape",
            ),
            for_itself: true,
        },
        408 | 425 | 429 | 500..=599 => said(Code::Refused, "", busy).retry(Retry::Transient).into(),
        _ => said(Code::Refused, "", busy).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_never_repeated() {
        let parts = |url: &str| split(url).map(|address| (address.base, address.path)).unwrap();
        let owned = |base: &str, path: &str| (base.to_owned(), path.to_owned());
        assert_eq!(parts("https://hooks.example.com/s/T0/B0/x"), owned("https://hooks.example.com", "/s/T0/B0/x"));
        assert_eq!(parts("https://h:8443?a=b&sig=c"), owned("https://h:8443", "/?a=b&sig=c"));
        assert_eq!(parts("https://h"), owned("https://h", "/"));
        assert_eq!(parts("http://127.0.0.1:9/x"), owned("http://127.0.0.1:9", "/x"));
        for url in [
            "",
            "tulip",
            "ftp://tulip",
            "http://h/tulip",
            "https://u:tulip@h/",
            "https://h/tu lip",
            "https://h/tulip#x",
            "https://h/tulip\r\nx: y",
        ] {
            let problem = split(url).map(|_| ()).unwrap_err();
            assert!(!format!("{problem:?}").contains("tulip"), "{problem:?}");
        }
    }

    #[test]
    fn the_status_says_whether_to_try_again() {
        assert!(judge(200).is_ok() && judge(204).is_ok());
        for (status, code, retry, for_itself) in [
            (302, Code::Refused, Retry::Permanent, false),
            (400, Code::Refused, Retry::Permanent, true),
            (401, Code::LoginRefused, Retry::Permanent, false),
            (404, Code::Refused, Retry::Permanent, false),
            (429, Code::Refused, Retry::Transient, false),
            (500, Code::Refused, Retry::Transient, false),
            (999, Code::Refused, Retry::Permanent, false),
        ] {
            let failed = judge(status).unwrap_err();
            let seen = (failed.problem.code, failed.problem.retry, failed.for_itself);
            assert_eq!(seen, (code, retry, for_itself), "{status}");
            assert!(failed.problem.message.contains(&status.to_string()) && failed.problem.hint.is_some());
        }
    }

    /// What comes of a receiver that takes the connection, says this, and then nothing.
    async fn met(says: &'static [u8], within: Duration) -> Result<(), SendFailure> {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = [0; 64];
            stream.read_exact(&mut heard).unwrap();
            let _ = stream.write_all(says);
            // Until the client has had enough.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let text = format!("state_dir = \"/s\"\n[notify.webhook]\nurl = \"http://{address}/x\"");
        let config: stackferry_config::Config = text.parse().unwrap();
        let sender = super::super::message::Sender { install: "a1b2c3".to_owned(), host: "backup1".to_owned() };
        let message = sender.test("2026-11-22T06:00:00Z".parse().unwrap());
        let met = send(&config.notify.webhook.unwrap(), &message, within).await;
        server.join().unwrap();
        met
    }

    // Closing a connection is the work of a task of its own.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_receiver_that_hangs_is_left_after_its_time() {
        let soon = Duration::from_millis(300);
        for says in [b"".as_slice(), b"HTTP/1.1 200 OK\r\nContent-Le"] {
            let failed = met(says, soon).await.unwrap_err();
            assert_eq!((failed.problem.code, failed.problem.retry), (Code::Silent, Retry::Transient));
        }
        // Its word stands as soon as its head is there: the body that it announces is not waited for.
        met(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Duration::from_secs(20)).await.unwrap();
    }
}
