//! What was told, and the messages on their way.

use stackferry_catalog::*;

use crate::bench::*;

fn problem(bench: &Bench, code: &str, subject: &str) -> ReportedProblem {
    ReportedProblem {
        code: code.to_owned(),
        subject: subject.to_owned(),
        name: "a 'name'\r\n".to_owned(),
        detail: None,
        since: at("2026-11-21T04:00:00Z"),
        seen: bench.now(),
        reported: None,
        gone: None,
    }
}

fn message(id: &str, channel: Channel, event: &str) -> NewMessage {
    NewMessage { id: id.to_owned(), channel, event: event.to_owned(), body: format!("{{\"id\":\"{id}\"}}") }
}

async fn waiting(catalog: &Catalog, channel: Channel) -> Option<String> {
    catalog.next_message(channel).await.unwrap().map(|waiting| waiting.message.id)
}

#[tokio::test]
async fn problems_and_messages_are_written_in_one_transaction() {
    let bench = Bench::new().await;
    let one = ReportedProblem { reported: Some(bench.now()), ..problem(&bench, "overdue", "appstack/A") };
    let two = problem(&bench, "overdue", "appstack/B");
    let change = NotifyChange {
        put: vec![one.clone(), two.clone()],
        codes: vec!["overdue".to_owned()],
        messages: vec![message("m1", Channel::Webhook, "problem"), message("m1", Channel::Mail, "problem")],
        ..NotifyChange::default()
    };
    bench.catalog.record_problems(&change).await.unwrap();
    let other = bench.another().await;
    assert_eq!(other.reported_problems().await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(other.reported_codes().await.unwrap()["overdue"], bench.now());
    assert_eq!(other.waiting_messages().await.unwrap(), [("mail".to_owned(), 1), ("webhook".to_owned(), 1)].into());

    bench.pass(10);
    let gone = ReportedProblem { gone: Some(bench.now()), ..one };
    let change = NotifyChange {
        put: vec![gone.clone()],
        forget: vec![("overdue".to_owned(), "appstack/B".to_owned())],
        ..NotifyChange::default()
    };
    bench.catalog.record_problems(&change).await.unwrap();
    assert_eq!(other.reported_problems().await.unwrap(), [gone]);
}

#[tokio::test]
async fn a_message_waits_until_it_is_taken_and_keeps_its_turn() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    for id in ["m1", "m2"] {
        let messages = vec![message(id, Channel::Webhook, "problem")];
        catalog.record_problems(&NotifyChange { messages, ..NotifyChange::default() }).await.unwrap();
    }
    let first = catalog.next_message(Channel::Webhook).await.unwrap().unwrap();
    assert_eq!((first.message.id.as_str(), first.tries, first.not_before), ("m1", 0, None));
    assert_eq!(catalog.next_message(Channel::Mail).await.unwrap(), None);
    let later = at("2026-11-22T05:00:00Z");
    catalog.message_failed(first.seq, "it answered 500", later).await.unwrap();
    let again = bench.another().await.next_message(Channel::Webhook).await.unwrap().unwrap();
    assert_eq!((again.seq, again.tries, again.not_before), (first.seq, 1, Some(later)));
    assert_eq!(again.last_error.as_deref(), Some("it answered 500"));
    catalog.end_message_delays().await.unwrap();
    assert_eq!(catalog.next_message(Channel::Webhook).await.unwrap().unwrap().not_before, None);
    catalog.message_done(first.seq).await.unwrap();
    assert_eq!(waiting(catalog, Channel::Webhook).await.as_deref(), Some("m2"));
}

#[tokio::test]
async fn a_digest_replaces_the_one_that_still_waits() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    assert_eq!(catalog.last_digest(Channel::Mail).await.unwrap(), None);
    let digest = |id: &str, day: &str| NotifyChange {
        messages: vec![message(id, Channel::Mail, "digest")],
        digests: vec![(Channel::Mail, day.to_owned())],
        ..NotifyChange::default()
    };
    let problem = NotifyChange { messages: vec![message("p", Channel::Mail, "problem")], ..NotifyChange::default() };
    catalog.record_problems(&digest("d1", "2026-11-22")).await.unwrap();
    catalog.record_problems(&problem).await.unwrap();
    catalog.record_problems(&digest("d2", "2026-11-23")).await.unwrap();
    assert_eq!(catalog.last_digest(Channel::Mail).await.unwrap().as_deref(), Some("2026-11-23"));
    assert_eq!(catalog.last_digest(Channel::Webhook).await.unwrap(), None);
    let first = catalog.next_message(Channel::Mail).await.unwrap().unwrap();
    assert_eq!(first.message.id, "p");
    catalog.message_done(first.seq).await.unwrap();
    assert_eq!(waiting(catalog, Channel::Mail).await.as_deref(), Some("d2"));
    assert_eq!(catalog.waiting_messages().await.unwrap()["mail"], 1);
}
