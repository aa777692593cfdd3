use std::io::{Read, Write};
use std::net::TcpListener;

use super::super::message::Sender;
use super::*;

fn settings(port: u16) -> Mail {
    let text = format!(
        "state_dir = \"/s\"\n[notify.mail]\nserver = \"127.0.0.1:{port}\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nuser = \"u\"\n\
         password = {{ file = \"/dev/null\" }}"
    );
    text.parse::<stackferry_config::Config>().unwrap().notify.mail.unwrap()
}

fn message() -> Message {
    Sender { install: "a1b2c3".to_owned(), host: "backup1".to_owned() }.test("2026-11-22T06:00:00Z".parse().unwrap())
}

/// What a server that says this, and then nothing, makes of it; and what it was told.
async fn met(says: Vec<&'static [u8]>, within: Duration) -> (Problem, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        for text in says {
            let _ = stream.write_all(text);
            let mut some = [0; 1024];
            match stream.read(&mut some) {
                Ok(count) if count > 0 => heard.extend_from_slice(&some[..count]),
                _ => break,
            }
        }
        let _ = stream.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    });
    let settings = Mail { user: None, password: None, ..settings(port) };
    let failed = send(&settings, &message(), within).await.unwrap_err();
    (failed.problem, server.join().unwrap())
}

const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_that_says_nothing_is_left_after_its_time() {
    let (problem, heard) = met(vec![b""], SOON).await;
    assert_eq!((problem.code, heard.as_str()), (Code::Silent, ""), "{problem:?}");
    let (problem, _) = met(vec![b"220 hello\r\n", b"250-mail\r\n"], SOON).await;
    assert_eq!(problem.code, Code::Silent, "{problem:?}");
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_is_left() {
    static LONG: [u8; 128 << 10] = [b'x'; 128 << 10];
    let (problem, _) = met(vec![&LONG], LATE).await;
    assert!(problem.code == Code::Protocol && problem.message.contains("its answer does not end"), "{problem:?}");
}

#[tokio::test]
async fn bytes_injected_before_starttls_are_discarded() {
    let says: Vec<&[u8]> = vec![b"220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go on\r\n250 AUTH PLAIN\r\n"];
    let (problem, heard) = met(says, LATE).await;
    assert!(
        problem.code == Code::Protocol && problem.message.contains("more than its answer to STARTTLS"),
        "{problem:?}"
    );
    assert!(heard.ends_with("STARTTLS\r\n"), "{heard}");
}

#[tokio::test]
async fn what_is_no_mail_server_is_said_to_be_none() {
    let (problem, _) = met(vec![b"SSH-2.0-OpenSSH_9.2\r\n"], LATE).await;
    assert!(problem.code == Code::Protocol && problem.message.contains("SSH-2.0"), "{problem:?}");
    let says: Vec<&[u8]> =
        vec![b"220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go on\r\n", b"no handshake at all"];
    let (problem, _) = met(says, LATE).await;
    assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("587")), "{problem:?}");
}

#[test]
fn a_letter_is_the_same_each_time_it_is_sent() {
    let message = message();
    let letter = || letter(&settings(1), &message).unwrap();
    let (one, two) = (letter().formatted(), letter().formatted());
    assert_eq!(one, two, "its id and its date are the message's own");
    let text = String::from_utf8(one).unwrap();
    assert!(text.contains(&format!("Message-ID: <{}@a1b2c3.stackferry>\r\n", message.id)), "{text}");
}
