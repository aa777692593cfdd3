//! Sends a message by mail. `stream` makes the connection, encrypted as the configuration wants it; nothing that matters,
//! and no password, is sent before it is.

mod stream;

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as From_, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message as Letter};
use stackferry_config::{Mail, MailAddress, SecretRef};

use super::failure::SendFailure;
use super::message::Message;
use stackferry_engine::blocking::blocking;
use stackferry_problem::output::escape;
use stackferry_problem::{Code, Problem, Retry};

/// How errors call it.
const NAME: &str = "the mail server";
/// The ways to log in that are used, of which the password is as safe as the connection is.
const LOGINS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// How long a server may take to say that it took a message: it may look through it first, and one that is sent again after
/// it was taken comes twice (RFC 5321, 4.5.3.2.6: 10 minutes).
const LAST_ANSWER: Duration = Duration::from_secs(600);
/// How long the end of a conversation may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How much of the server's words an error keeps, in characters.
const WORDS: usize = 200;

/// Sends a message, all but the server's last answer within this time. Gives the recipients that the server did not take; the others got it.
pub(super) async fn send(settings: &Mail, message: &Message, within: Duration) -> Result<Vec<String>, SendFailure> {
    let letter = letter(settings, message)?;
    let password = settings.password.clone();
    let password =
        blocking(move || password.as_ref().map(SecretRef::resolve).transpose()).await?.map_err(Problem::from)?;
    let login = settings.user.as_ref().zip(password.as_ref()).map(|(user, password)| {
        (user.as_str(), Credentials::new(user.as_str().to_owned(), password.expose().to_owned()))
    });
    let (left, mut smtp) = match tokio::time::timeout(within, prepare(settings, &letter, login)).await {
        Ok(prepared) => prepared?,
        Err(_) => return Err(silent(settings, within)),
    };
    match tokio::time::timeout(LAST_ANSWER, smtp.message(&letter.formatted())).await {
        Ok(Ok(_)) => {
            // It took the message: that it is slow to say goodbye must not have it sent again.
            let _ = tokio::time::timeout(GOODBYE, smtp.abort()).await;
            Ok(left)
        }
        Ok(Err(error)) => {
            let problem = trouble(settings, "sending a message", &error);
            Err(SendFailure { for_itself: error.is_permanent(), problem })
        }
        Err(_) => Err(silent(settings, LAST_ANSWER)),
    }
}

fn silent(settings: &Mail, after: Duration) -> SendFailure {
    let text = format!("{NAME} {} was not done after {} seconds", settings.address(), after.as_secs());
    Problem::new(Code::Silent, text)
        .subject(settings.address())
        .hint("check whether it is overloaded, and whether `tls` fits its port; the message is sent again")
        .into()
}

/// Whether all that it needs is there, without connecting.
///
/// # Errors
/// The password can't be had, an address is none, or the authorities can't be read. Blocks.
pub(super) fn check(settings: &Mail) -> Result<(), Problem> {
    settings.password.as_ref().map(SecretRef::resolve).transpose()?;
    stream::tls_config(settings)?;
    mailbox(&settings.from)?;
    settings.to.iter().try_for_each(|to| mailbox(to).map(|_| ()))
}

fn mailbox(address: &MailAddress) -> Result<Mailbox, Problem> {
    let parsed: Result<Address, _> = address.as_str().parse();
    parsed.map(|parsed| Mailbox::new(None, parsed)).map_err(|error| {
        Problem::new(Code::BadConfig, format!("{address} is no address that mail can be sent to: {error}"))
            .subject("notify.mail")
            .hint("correct `from` or `to`")
    })
}

/// The letter: plain text. What stands in its head is made of checked addresses and of a line without control characters.
fn letter(settings: &Mail, message: &Message) -> Result<Letter, Problem> {
    let raw =
        |name: &'static str, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    let mut builder = Letter::builder()
        .from(mailbox(&settings.from)?)
        .subject(format!("[stackferry] {}", message.headline()))
        .date(SystemTime::from(message.at))
        .message_id(Some(format!("<{}@{}.stackferry>", message.id, message.install)))
        // RFC 3834: nobody's holiday notice answers this.
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Stackferry-Event", message.event.as_str()))
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        builder = builder.to(mailbox(to)?);
    }
    let text = message.mail(&TimeZone::system());
    builder.body(text).map_err(|error| Problem::internal(format!("a mail can't be made: {error}")))
}

/// All up to the message itself.
async fn prepare(
    settings: &Mail,
    letter: &Letter,
    login: Option<(&str, Credentials)>,
) -> Result<(Vec<String>, AsyncSmtpConnection), SendFailure> {
    let failed = |doing: &str, error: &lettre::transport::smtp::Error| trouble(settings, doing, error);
    let stream = stream::open(settings).await?;
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ClientId::default()).await;
    let mut smtp = connected.map_err(|error| failed("saying hello", &error))?;
    if let Some((user, credentials)) = login {
        smtp.auth(&LOGINS, &credentials).await.map_err(|error| refused(settings, user, &error))?;
    }
    let envelope = letter.envelope();
    let from = smtp.command(From_::new(envelope.from().cloned(), Vec::new())).await;
    from.map_err(|error| failed("naming the sender", &error))?;
    let (mut taken, mut left, mut last) = (0_usize, Vec::new(), None);
    for to in envelope.to() {
        match smtp.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => taken += 1,
            Err(error) if error.status().is_some() => {
                left.push(format!("{to}: {}", words(&error)));
                last = Some(error);
            }
            Err(error) => return Err(failed("naming a recipient", &error).into()),
        }
    }
    if let Some(error) = last.filter(|_| taken == 0) {
        smtp.abort().await;
        return Err(failed("naming the recipients", &error).into());
    }
    smtp.command(Data).await.map_err(|error| failed("sending a message", &error))?;
    Ok((left, smtp))
}

/// The server did not let us in. Its words are left out: it might repeat what it was told.
fn refused(settings: &Mail, user: &str, error: &lettre::transport::smtp::Error) -> Problem {
    let Some(status) = error.status() else {
        return match error.is_client() {
            true => Problem::new(
                Code::Refused,
                format!("{NAME} {} offers no login by password (PLAIN or LOGIN)", settings.address()),
            )
            .subject(settings.address())
            .hint("allow it there for encrypted connections, or take `user` and `password` out"),
            false => Problem::new(
                Code::Unreachable,
                format!("the connection to {NAME} {} broke at the login", settings.address()),
            )
            .subject(settings.address())
            .hint("look at the mail server; the message is sent again"),
        };
    };
    let problem = |code| {
        Problem::new(code, format!("{NAME} {} refused the login of {user} ({status})", settings.address()))
            .subject(settings.address())
    };
    match error.is_transient() {
        true => problem(Code::Refused).retry(Retry::Transient).hint("look at its log; the message is sent again"),
        false => problem(Code::LoginRefused)
            .hint("correct `user` and `password` in [notify.mail]; `stackferry notify test` tries them"),
    }
}

fn trouble(settings: &Mail, doing: &str, error: &lettre::transport::smtp::Error) -> Problem {
    let (code, retry) = match error.status() {
        Some(_) if error.is_transient() => (Code::Refused, Retry::Transient),
        Some(_) => (Code::Refused, Retry::Permanent),
        None if error.is_response() || error.is_client() => (Code::Protocol, Retry::Permanent),
        None => (Code::Unreachable, Retry::Transient),
    };
    let hint = match code {
        Code::Refused => "its words say why: correct `from`, `to` or its own rules for this machine",
        Code::Protocol => "is it a mail server, and does `tls` fit its port? 587 is for \"starttls\", 465 for \"tls\"",
        _ => "look at the mail server; the message is sent again",
    };
    Problem::new(code, format!("{doing} at {NAME} {} failed: {}", settings.address(), words(error)))
        .subject(settings.address())
        .hint(hint)
        .retry(retry)
}

/// An error with its causes, as it may be shown; a server may say anything at any length.
fn words(error: &lettre::transport::smtp::Error) -> String {
    escape(&stackferry_transfer::describe(error)).chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests;
