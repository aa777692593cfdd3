//! A service that copies from an endpoint: the bandwidth limit on the wire, and credentials that are counted.

use std::path::Path;
use std::process::Command;

use stackferry_catalog::Outcome;
use stackferry_transfer::endpoint::{EndpointConfig, EndpointServer};

use crate::bench::{Bench, Service, endings, until};

/// A fresh key of OpenSSH's own making; gives its public line.
fn new_key(path: &Path) -> String {
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-C", "service", "-f"]).arg(path);
    assert!(make.status().expect("ssh-keygen runs").success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_is_limited_and_credentials_are_counted() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 4 << 20);
    let served = bench.dir.path().join("nfs02");
    std::fs::rename(bench.dir.path().join("nfs01"), &served).unwrap();
    std::fs::create_dir(bench.dir.path().join("nfs01")).unwrap();
    let key = bench.dir.path().join("key");
    let endpoint = EndpointServer::bind(EndpointConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_key: bench.dir.path().join("host_key"),
        issuers: vec![new_key(&key)],
        datastores: [("nfs02".to_owned(), served)].into(),
        restore: std::collections::BTreeSet::new(),
    })
    .await
    .unwrap();
    let (address, host_key) = (endpoint.local_addr().unwrap(), endpoint.public_host_key());
    let serving = tokio::spawn(endpoint.run(std::future::pending()));
    let more = format!(
        "[[datastore]]\nname = \"nfs02\"\nroute = \"endpoint\"\nhost = \"{address}\"\nhost_key = \"{host_key}\"\n\
         key = \"{}\"\n[schedule]\nevery = \"1s\"\n[limits]\nbandwidth = \"2MB/s\"\n",
        key.display()
    );
    let service = Service::start(&bench, &more).await;
    let catalog = service.app.catalog().clone();
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    until("the copy has ended", async || service.sample("stackferry_transfers_running").await == Some(0.0)).await;
    assert_eq!(endings(&catalog, &office).await, [(Outcome::Copied, None)]);
    let sample = async |series: &str| service.sample(series).await.unwrap();
    let took = sample("stackferry_copy_duration_seconds_sum").await;
    assert!(took >= 1.9, "4 MiB at 2 MB/s took {took} s");
    assert!(sample("stackferry_wire_bytes_total{route=\"endpoint\"}").await >= f64::from(4 << 20));
    assert_eq!(sample("stackferry_wire_bytes_total{route=\"local\"}").await, 0.0);
    assert_eq!(sample("stackferry_credentials_issued_total{route=\"endpoint\"}").await, 2.0, "one for each file");
    assert_eq!(sample("stackferry_credentials_outstanding").await, 0.0);

    // The endpoint goes away: the service lives, says so, and is ready while it sees the other datastore.
    serving.abort();
    let failures = "stackferry_discovery_failures_total{source=\"default/nfs02\"}";
    until("the loss is counted", async || sample(failures).await >= 1.0).await;
    assert_eq!(crate::bench::get(service.address, "/readyz").await.0, 200);
    let deferred = "stackferry_volumes{kind=\"appstack\",state=\"deferred\"}";
    until("its volume is deferred, not gone", async || sample(deferred).await == 1.0).await;
    service.end().await;
}
