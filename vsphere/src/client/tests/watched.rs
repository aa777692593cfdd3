//! Changes: told by the server, or looked for.

use std::time::Duration;

use super::*;
use crate::watch::Change;

#[tokio::test]
async fn a_server_without_updates_is_looked_at() {
    let server = Server::start(|called| match called.method {
        // A look asks twice: for datastores and for machines. The third look sees another disk.
        "RetrievePropertiesEx" => {
            let device = "<VirtualDevice i:type=\"VirtualDisk\"><backing><fileName>[ds] a.vmdk</fileName></backing></VirtualDevice>";
            let device = if called.before < 4 { "" } else { device };
            page(&object("VirtualMachine", "vm-1", &property("config.hardware.device", device)))
        }
        _ => None,
    })
    .await;
    let mut watch = server.client().watch();
    watch.look = Duration::from_millis(20);
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    assert!(!watch.is_told());
    assert_eq!(watch.next(Duration::from_secs(20)).await.unwrap(), Change::Changed);
    assert_eq!(watch.next(Duration::from_millis(50)).await.unwrap(), Change::Quiet);
}

#[tokio::test]
async fn a_first_state_in_pieces_is_no_change() {
    let server = Server::start(|called| {
        let update = |truncated: bool| {
            page(&format!(
                "<version>-</version><filterSet><objectSet><kind>enter</kind></objectSet></filterSet><truncated>{truncated}</truncated>"
            ))
        };
        match called.method {
            "CreatePropertyCollector" => Some(Say::Inside(r#"<returnval type="PropertyCollector">own</returnval>"#.to_owned())),
            "CreateFilter" => Some(Say::Inside(r#"<returnval type="PropertyFilter">filter</returnval>"#.to_owned())),
            "WaitForUpdatesEx" => match called.before {
                0 => {
                    assert!(called.body.contains("<version></version>"), "{}", called.body);
                    update(true)
                }
                1 => {
                    assert!(called.body.contains("<version>-</version>"), "{}", called.body);
                    update(false)
                }
                2 => Some(Say::Inside(String::new())),
                3 => page("<version>-</version>"),
                _ => update(false),
            },
            _ => None,
        }
    })
    .await;
    let mut watch = server.client().watch();
    for _ in 0..2 {
        assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    }
    assert!(watch.is_told());
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Changed);
}

#[tokio::test]
async fn a_server_that_does_not_wait_is_not_asked_without_pause() {
    let server = Server::start(|called| match called.method {
        "CreatePropertyCollector" => {
            Some(Say::Inside(r#"<returnval type="PropertyCollector">own</returnval>"#.to_owned()))
        }
        "CreateFilter" | "WaitForUpdatesEx" => Some(Say::Inside(String::new())),
        _ => None,
    })
    .await;
    let mut watch = server.client().watch();
    for wait in [Duration::ZERO, Duration::from_millis(900)] {
        assert_eq!(watch.next(wait).await.unwrap(), Change::Quiet);
    }
    assert_eq!(server.count("WaitForUpdatesEx"), 3, "the first state, and one for each wait");
    let calls = server.calls.lock().unwrap();
    assert!(calls.last().unwrap().1.contains("<maxWaitSeconds>1</maxWaitSeconds>"), "{calls:?}");
}
