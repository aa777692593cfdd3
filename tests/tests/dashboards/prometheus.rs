//! A real Prometheus on its own port, with its data in a temporary folder.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::lab::{RunningProcess, wait_for};

use crate::boards::files;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Prometheus {
    process: RunningProcess,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it with our rules, to scrape the service every second.
    pub(crate) fn start(program: &Path, folder: &Path, service: SocketAddr) -> Self {
        let rules: Vec<String> =
            files("dashboards/rules", "yml").iter().map(|path| path.display().to_string()).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: {}\n\
             scrape_configs:\n\
             - job_name: stackferry\n\
             \x20 static_configs: [{{ targets: [\"{service}\"] }}]\n",
            serde_json::to_string(&rules).unwrap()
        );
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"));
        let mut started = Self { process: RunningProcess::start("prometheus".to_owned(), command).unwrap(), address };
        wait_for("Prometheus to be ready", LIMIT, || {
            assert!(!started.process.has_ended().unwrap(), "{}", started.process.stderr());
            Ok(get(started.address, "/-/ready").is_some_and(|(status, _)| status == 200))
        })
        .unwrap();
        started
    }

    /// The answer to a question of its HTTP API.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let (status, body) = get(self.address, path).ok_or("Prometheus does not answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{status}: {error}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(body) }
    }

    /// What an expression gives now: labels and value of each series. What is no number is left out.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let series = data["result"].as_array().ok_or("no list of series")?.iter();
        let values =
            series.map(|one| (one["metric"].clone(), one["value"][1].as_str().and_then(|text| text.parse().ok())));
        Ok(values
            .filter_map(|(labels, value)| value.filter(|value: &f64| value.is_finite()).map(|value| (labels, value)))
            .collect())
    }

    /// The values of a label of the series that a selector finds: what Grafana's `label_values(selector, label)` asks.
    pub(crate) fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let data = self.get(&format!("/api/v1/label/{label}/values?match[]={}", encoded(selector)))?;
        let values = data.as_array().ok_or("no list of values")?.iter();
        Ok(values.filter_map(|value| value.as_str().map(str::to_owned)).collect())
    }
}

/// Everything but letters and digits as `%XX`.
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

/// Status and body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
}

/// Status and body of a POST of JSON by the bearer of a token.
pub(crate) fn post(address: SocketAddr, path: &str, token: &str, body: &str) -> Option<(u16, String)> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    exchange(address, &(head + body))
}

/// By HTTP/1.0, so that the body ends with the connection.
fn exchange(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
