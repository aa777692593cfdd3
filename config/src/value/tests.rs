use jiff::civil::time;
use proptest::prelude::*;

use super::*;

/// What is printed parses back to the same value, and serde agrees with both.
fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: std::str::FromStr<Err = ValueError>
        + fmt::Display
        + fmt::Debug
        + PartialEq
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let text = value.to_string();
    prop_assert_eq!(&text.parse::<T>().map_err(|error| TestCaseError::fail(error.to_string()))?, value);
    let json = serde_json::to_value(value).unwrap();
    prop_assert_eq!(&json, &serde_json::Value::from(text));
    prop_assert_eq!(&serde_json::from_value::<T>(json).unwrap(), value);
    Ok(())
}

proptest! {
    #[test]
    fn periods(seconds in prop_oneof![0..=Period::MAX.as_seconds(), 0_u64..100_000]) {
        round_trip(&Period::from_seconds(seconds).unwrap())?;
    }

    #[test]
    fn sizes(bytes in prop_oneof![0..=Size::MAX.as_bytes(), 0_u64..5000], factor in 0_u32..5) {
        round_trip(&Size::from_bytes(bytes).unwrap())?;
        for base in [1000_u64, 1024] {
            if let Some(size) = bytes.checked_mul(base.pow(factor)).and_then(Size::from_bytes) {
                round_trip(&size)?;
            }
        }
    }

    #[test]
    fn rates(bytes in Rate::MIN.as_bytes_per_second()..=Size::MAX.as_bytes()) {
        round_trip(&Rate::from_bytes_per_second(bytes).unwrap())?;
    }

    #[test]
    fn reserves(percent in 0_u8..=90, bytes in 0..=Size::MAX.as_bytes(), total: u64) {
        let share = ReserveSetting::percent(percent).unwrap();
        round_trip(&share)?;
        round_trip(&ReserveSetting::Size(Size::from_bytes(bytes).unwrap()))?;
        let exact = u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap();
        prop_assert_eq!(share.of(total), exact);
    }

    #[test]
    fn windows(start in 0_u16..1440, end in 1_u16..=1440, minute in 0_u16..1440) {
        prop_assume!(start != end);
        let window = Window::new(start, end).unwrap();
        round_trip(&window)?;
        let at = time(i8::try_from(minute / 60).unwrap(), i8::try_from(minute % 60).unwrap(), 59, 0);
        // Walks from the start, minute by minute, until it meets the minute asked for or the end.
        let mut inside = false;
        let mut walked = start;
        while walked != end && walked != end % 1440 || walked == start {
            inside |= walked == minute;
            walked = (walked + 1) % 1440;
            if walked == start { break; }
        }
        prop_assert_eq!(window.contains(at), inside);
    }

    #[test]
    fn fingerprints(bytes: [u8; 32], upper: bool) {
        let fingerprint = CertificateFingerprint::from(bytes);
        round_trip(&fingerprint)?;
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut colons = pairs.join(":");
        if upper { colons.make_ascii_uppercase(); }
        prop_assert_eq!(format!("sha256:{colons}").parse::<CertificateFingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn folders(parts in prop::collection::vec("[a-zA-Z0-9 _.!\\\\é-]{1,20}", 1..6)) {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        round_trip(&parts.join("/").parse::<FolderPath>().unwrap())?;
    }

    #[test]
    fn paths(parts in prop::collection::vec("[a-zA-Z0-9 _.é-]{1,20}", 0..6)) {
        prop_assume!(parts.iter().all(|part| part != ".."));
        round_trip(&format!("/{}", parts.join("/")).parse::<AbsPath>().unwrap())?;
    }

    #[test]
    fn hosts(name in "[a-z][a-z0-9]{0,20}(\\.[a-z0-9]{1,10}){0,3}", v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr,
             port in prop::option::of(1_u16..), default in 1_u16..) {
        for (plain, written) in [(name.clone(), name), (v4.to_string(), v4.to_string()), (v6.to_string(), format!("[{v6}]"))] {
            let text = port.map_or_else(|| written.clone(), |port| format!("{written}:{port}"));
            let host: HostText = text.parse().unwrap();
            round_trip(&host)?;
            let host = host.or_port(default);
            prop_assert_eq!(&host.host, &plain);
            prop_assert_eq!(host.port, port.unwrap_or(default));
            // With its port written out it is the same host.
            prop_assert_eq!(host.to_string().parse::<HostText>().unwrap().or_port(1), host);
        }
    }

    #[test]
    fn listeners(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, port: u16) {
        round_trip(&Listen::from(std::net::SocketAddr::from((v4, port))))?;
        round_trip(&Listen::from(std::net::SocketAddr::from((v6, port))))?;
    }

    /// No text whatever makes a parser panic, and what it takes it can print and read again.
    #[test]
    fn any_text_is_taken_or_refused(text in prop_oneof![".{0,40}", "[0-9wdhmsKMGTiB%/:.-]{0,16}", "[]\\[a-f0-9:%.]{0,24}"]) {
        fn try_one<T>(text: &str) -> Result<(), TestCaseError>
        where
            T: std::str::FromStr<Err = ValueError> + fmt::Display + fmt::Debug + PartialEq,
        {
            if let Ok(value) = text.parse::<T>() {
                prop_assert_eq!(value.to_string().parse::<T>().unwrap(), value);
            }
            Ok(())
        }
        try_one::<Period>(&text)?;
        try_one::<Size>(&text)?;
        try_one::<Rate>(&text)?;
        try_one::<ReserveSetting>(&text)?;
        try_one::<Window>(&text)?;
        try_one::<AbsPath>(&text)?;
        try_one::<FolderPath>(&text)?;
        try_one::<HostText>(&text)?;
        try_one::<Listen>(&text)?;
        try_one::<Name>(&text)?;
        try_one::<UnixName>(&text)?;
        try_one::<CertificateFingerprint>(&text)?;
        try_one::<HostKey>(&text)?;
        try_one::<WebUrl>(&format!("https://{text}"))?;
        try_one::<CatalogUrl>(&format!("postgres://{text}"))?;
    }
}

#[test]
fn periods_as_people_write_them() {
    for (text, seconds) in [
        ("0s", 0),
        ("90s", 90),
        ("5m", 300),
        ("24h", 86_400),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1h30m", 5_400),
        ("1w2d3h4m5s", 788_645),
        ("36500d", 36_500 * 86_400),
    ] {
        assert_eq!(text.parse::<Period>().unwrap().as_seconds(), seconds, "{text}");
    }
    for text in [
        "",
        "5",
        "m",
        "5 m",
        " 5m",
        "5min",
        "-5m",
        "+5m",
        "1.5h",
        "30m1h",
        "1h1h",
        "5m3",
        "5M",
        "36501d",
        "99999999999999999999s",
        "9999999999999999w",
        "٣m",
    ] {
        let error = text.parse::<Period>().unwrap_err();
        assert!(error.hint().contains('"'), "{text}: {error}");
    }
    assert_eq!("24h".parse::<Period>().unwrap().to_string(), "1d");
    assert_eq!("90m".parse::<Period>().unwrap().to_string(), "1h30m");
}

#[test]
fn sizes_as_people_write_them() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("12B", 12),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("200MB", 200_000_000),
        ("96MiB", 96 << 20),
        ("1GB", 1_000_000_000),
        ("10GiB", 10 << 30),
        ("2TB", 2_000_000_000_000),
        ("3TiB", 3 << 40),
        ("9223372036854775807", i64::MAX.unsigned_abs()),
    ] {
        assert_eq!(text.parse::<Size>().unwrap().as_bytes(), bytes, "{text}");
    }
    for text in ["", "MiB", "1 MiB", "1M", "1mb", "-1", "1.5GiB", "9223372036854775808", "8388608TiB", "1MiB "] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
    assert_eq!(Size::bytes_unchecked(96 << 20).to_string(), "96MiB");
    assert_eq!(Size::bytes_unchecked(1_500_000).to_string(), "1500kB");
}

#[test]
fn a_size_may_be_a_number() {
    assert_eq!(serde_json::from_str::<Size>("4096").unwrap().as_bytes(), 4096);
    assert!(serde_json::from_str::<Size>("-1").is_err());
    assert!(serde_json::from_str::<Size>("18446744073709551615").is_err());
    assert!(serde_json::from_str::<Size>("1.5").is_err());
}

#[test]
fn rates_and_reserves_have_limits() {
    assert_eq!("64KiB/s".parse::<Rate>().unwrap(), Rate::MIN);
    for text in ["65535/s", "0B/s", "200MB", "200MB/h", "1Gbit/s", "200MB/s "] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
    assert_eq!("0%".parse::<ReserveSetting>().unwrap().of(1 << 40), 0);
    assert_eq!("5%".parse::<ReserveSetting>().unwrap().of(1999), 99);
    assert_eq!("10GiB".parse::<ReserveSetting>().unwrap().of(5), 10 << 30);
    for text in ["91%", "5", "%", "-5%", "5.5%", "+5%", "300%", "5 %"] {
        // A plain number is a size of so many bytes, which is allowed.
        assert_eq!(text.parse::<ReserveSetting>().is_ok(), text == "5", "{text}");
    }
}

#[test]
fn windows_go_past_midnight() {
    let night: Window = "22:00-06:00".parse().unwrap();
    for (hour, minute, inside) in [(21, 59, false), (22, 0, true), (0, 0, true), (5, 59, true), (6, 0, false)] {
        assert_eq!(night.contains(time(hour, minute, 0, 0)), inside, "{hour}:{minute}");
    }
    let evening: Window = "20:00-24:00".parse().unwrap();
    assert!(evening.contains(time(23, 59, 59, 0)) && !evening.contains(time(0, 0, 0, 0)));
    assert_eq!("20:00-00:00".parse::<Window>().unwrap(), evening);
    let whole: Window = "00:00-24:00".parse().unwrap();
    assert!(whole.contains(time(0, 0, 0, 0)) && whole.contains(time(23, 59, 0, 0)));
    for text in [
        "",
        "22:00",
        "22:00-22:00",
        "00:00-00:00",
        "24:00-06:00",
        "22-06",
        "22:60-23:00",
        "25:00-26:00",
        "22:00-06:00-",
        "2:00-3:00",
        "22:00 - 06:00",
        "+1:00-02:00",
        "24:01-06:00",
    ] {
        assert!(text.parse::<Window>().is_err(), "{text}");
    }
}

#[test]
fn folders_never_leave_the_datastore() {
    for text in ["", "/", "/apps", "apps/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\0b", "a\nb", "a/.."] {
        assert!(text.parse::<FolderPath>().is_err(), "{text:?}");
    }
    for text in ["cloudvolumes/apps", "a b", "..a", "a..", "...", "CORP!5C!jdoe", "a\\b"] {
        assert_eq!(text.parse::<FolderPath>().unwrap().as_str(), text);
    }
    assert!("x".repeat(1025).parse::<FolderPath>().is_err());
}

#[test]
fn paths_are_absolute() {
    for text in ["", "srv", "./srv", "~/srv", "/srv/../etc", "/srv/..", "/a\0b", "/a\nb"] {
        assert!(text.parse::<AbsPath>().is_err(), "{text:?}");
    }
    assert!(format!("/{}", "x".repeat(4095)).parse::<AbsPath>().is_err());
    let path = |text: &str| text.parse::<AbsPath>().unwrap();
    assert!(path("/srv").overlaps(&path("/srv/vault")) && path("/srv/vault/").overlaps(&path("/srv")));
    assert!(path("/srv").overlaps(&path("/srv/")));
    assert!(!path("/srv").overlaps(&path("/srvx")) && !path("/srv/a").overlaps(&path("/srv/b")));
}

#[test]
fn hosts_are_names_or_addresses() {
    for text in [
        "",
        ":22",
        "host:",
        "host:0",
        "host:65536",
        "host:+22",
        "host:22:23",
        "::1",
        "fe80::1",
        "[::1",
        "[::1]22",
        "[1.2.3.4]",
        "[fe80::1%]",
        "[fe80::1%a b]",
        "a b",
        "-host",
        "host-.x",
        "a..b",
        "user@host",
        "host/x",
        "[]:22",
    ] {
        assert!(text.parse::<HostText>().is_err(), "{text}");
    }
    let zone = "[fe80::1%eth0]:22".parse::<HostText>().unwrap().or_port(1);
    assert_eq!((zone.host.as_str(), zone.port, zone.to_string().as_str()), ("fe80::1%eth0", 22, "[fe80::1%eth0]:22"));
}

#[test]
fn urls_hold_no_password_and_are_encrypted() {
    for text in [
        "https://avm",
        "https://avm.example.com:8443/x/",
        "https://[::1]:1",
        "http://localhost:80",
        "http://[::1]",
        "http://127.1.2.3:8080/sdk",
    ] {
        assert_eq!(text.parse::<WebUrl>().unwrap().as_str(), text);
    }
    for text in [
        "",
        "avm.example.com",
        "ftp://avm",
        "https://",
        "https:///x",
        "http://avm.example.com",
        "https://a b",
        "https://svc:tulip@avm",
        "https://tulip@avm",
        "https://avm?tulip",
        "https://avm#tulip",
        "https://avm:0",
        "https://avm:65536",
        "https://256.1.1.1",
        "https://avm\\x",
        "http://192.0.2.1",
        "http://localhost.tulip.example",
    ] {
        let error = text.parse::<WebUrl>().unwrap_err().to_string();
        assert!(!error.contains("tulip"), "{text}: {error}");
    }
    assert!("https://[2001:db8::8]/sdk".parse::<WebUrl>().unwrap().is_https());

    for text in
        ["postgres://db/x", "postgresql://user@db:5432/x?sslmode=verify-full", "postgres:///x?host=/run/postgresql"]
    {
        assert_eq!(text.parse::<CatalogUrl>().unwrap().as_str(), text);
    }
    for text in [
        "postgres://user:tulip@db/x",
        "postgres://user:tu@lip@db/x",
        "postgres://user:tulip/1@db/x",
        "postgres://user:12/tulip@db/x",
        "postgres://db/x?password=tulip",
        "postgres://db/x?PassWord=tulip",
        "postgres://db/x?pass%77ord=tulip",
        "mysql://tulip",
        "sqlite:tulip",
        "postgres://db/x tulip",
    ] {
        let error = text.parse::<CatalogUrl>().unwrap_err().to_string();
        assert!(!error.contains("tulip"), "{text}: {error}");
    }
}

#[test]
fn keys_are_public_and_one_line() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2Vmb3J0ZXN0c2Zha2Vmb3J0ZXN0c2Zha2Vm";
    assert_eq!(format!("{KEY} host@x").parse::<HostKey>().unwrap().to_string(), format!("{KEY} host@x"));
    for line in [KEY.to_owned(), format!("from=\"10.0.0.0/8,192.168.1.2\" {KEY} a b"), format!("restrict,pty {KEY}")] {
        assert!(check_key_line(&line).is_ok(), "{line}");
    }
    for line in [
        String::new(),
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 tulip".to_owned(),
        KEY.replace("ssh-ed25519", "ssh-dss"),
        format!("{KEY}\n{KEY}"),
        "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        format!("{KEY} {}", "x".repeat(9000)),
    ] {
        assert!(check_key_line(&line).is_err(), "{line}");
    }
    assert!(format!("restrict {KEY}").parse::<HostKey>().is_err());
}

#[test]
fn fingerprints_are_whole() {
    let digits = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    assert!(format!("SHA256:{digits}").parse::<CertificateFingerprint>().is_ok());
    let short = digits.get(2..).unwrap();
    for text in [
        digits.to_owned(),
        format!("sha1:{digits}"),
        format!("sha256:{short}"),
        format!("sha256:{digits}00"),
        format!("sha256:+f{short}"),
        format!("sha256:9:f86{short}"),
        format!("sha256:gg{short}"),
        "sha256:".to_owned(),
        "é".repeat(40),
    ] {
        assert!(text.parse::<CertificateFingerprint>().is_err(), "{text}");
    }
}

#[test]
fn names_are_plain() {
    for text in ["", " a", "a ", "a\tb", "a\0b"] {
        assert!(text.parse::<Name>().is_err() && text.parse::<Site>().is_err(), "{text:?}");
    }
    assert!("x".repeat(256).parse::<Name>().is_err());
    for text in ["", "-x", "a b", "a:b", "a/b", "a\nb"] {
        assert!(text.parse::<UnixName>().is_err(), "{text:?}");
    }
}

#[test]
fn long_values_are_cut_in_errors() {
    let error = "x".repeat(100_000).parse::<Period>().unwrap_err().to_string();
    assert!(error.len() < 300, "{}", error.len());
}

#[test]
fn mail_addresses_are_plain() {
    for text in ["a@b", "stackferry+vdi@mail.example.com", "o'neill@example.com"] {
        assert_eq!(text.parse::<MailAddress>().unwrap().as_str(), text);
    }
    let long = format!("{}@example.com", "x".repeat(65));
    for text in [
        "",
        "a",
        "@b",
        "a@",
        "a b@c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a@b@c",
        "a@b:25",
        "a@[192.0.2.7]",
        "<a@b>",
        "A <a@b>",
        "a@b\r\nBcc: c@d",
        "a\n@b",
        "ä@b",
        "a@ä",
        "a@-b",
        &long,
    ] {
        assert!(text.parse::<MailAddress>().is_err(), "{text:?}");
    }
}

#[test]
fn times_of_day_are_whole_minutes() {
    for text in ["00:00", "07:00", "23:59"] {
        assert_eq!(text.parse::<DayTime>().unwrap().to_string(), text);
    }
    for text in ["", "7:00", "07:0", "24:00", "07:60", "07-00", "07:00:00", "-7:00", "+7:00", "07:00 "] {
        assert!(text.parse::<DayTime>().is_err(), "{text:?}");
    }
}
