//! Changes: reported by the server, or found by polling.

use std::time::Duration;

use super::*;
use crate::watch::{Change, Watch};

#[tokio::test]
async fn a_server_without_updates_is_polled() {
    let server = Server::start(|called| match called.method {
        // A poll makes two calls: for datastores and for machines. The third poll finds another disk.
        "RetrievePropertiesEx" => {
            let device = "<VirtualDevice i:type=\"VirtualDisk\"><backing><fileName>[ds] a.vmdk</fileName></backing></VirtualDevice>";
            let device = if called.before < 4 { "" } else { device };
            page(&object("VirtualMachine", "vm-1", &property("config.hardware.device", device)))
        }
        _ => None,
    })
    .await;
    let mut watch = Watch::new(server.client());
    watch.poll_interval = Duration::from_millis(20);
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    assert_eq!(watch.next(Duration::from_secs(20)).await.unwrap(), Change::Changed);
    assert_eq!(watch.next(Duration::from_millis(50)).await.unwrap(), Change::Quiet);
}

#[tokio::test]
async fn an_initial_state_in_parts_is_no_change() {
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
    let mut watch = Watch::new(server.client());
    for _ in 0..2 {
        assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    }
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Changed);
}

#[tokio::test]
async fn a_server_that_does_not_wait_is_called_with_pauses() {
    let server = Server::start(|called| match called.method {
        "CreatePropertyCollector" => {
            Some(Say::Inside(r#"<returnval type="PropertyCollector">own</returnval>"#.to_owned()))
        }
        "CreateFilter" | "WaitForUpdatesEx" => Some(Say::Inside(String::new())),
        _ => None,
    })
    .await;
    let mut watch = Watch::new(server.client());
    for wait in [Duration::ZERO, Duration::from_millis(900)] {
        assert_eq!(watch.next(wait).await.unwrap(), Change::Quiet);
    }
    assert_eq!(server.count("WaitForUpdatesEx"), 3, "the initial state, and one for each wait");
    let calls = server.calls.lock().unwrap();
    assert!(calls.last().unwrap().1.contains("<maxWaitSeconds>1</maxWaitSeconds>"), "{calls:?}");
}
