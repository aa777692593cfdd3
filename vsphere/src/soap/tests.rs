use super::*;

const CONTEXT: ErrorContext<'static> = ErrorContext { system: "vSphere vc1", call: "SearchDatastore_Task" };

fn enveloped(inside: &str) -> Bytes {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
        xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{inside}</soapenv:Body></soapenv:Envelope>"#
    )
    .into()
}

fn fault(kind: &str, inside: &str) -> VsphereError {
    let body = enveloped(&format!(
        r#"<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>its
        words</faultstring><detail><{kind}Fault xmlns="urn:vim25" XMLSchema-instance:type="{kind}">{inside}</{kind}Fault></detail></soapenv:Fault>"#
    ));
    parse(CONTEXT, 500, None, &body).unwrap_err()
}

#[test]
fn envelope_values_are_escaped() {
    let this = Moid { kind: "SessionManager".to_owned(), value: "a<b>&\"c".to_owned() };
    let text = String::from_utf8(envelope("Login", &this, |writer| writer.text("userName", "CORP\\a&b"))).unwrap();
    let root = XmlNode::parse(text.as_bytes()).unwrap();
    let login = root.at(&["Body", "Login"]).unwrap();
    assert_eq!(moid(login.get("_this").unwrap()), Some(this));
    assert_eq!(login.text_of("userName"), Some("CORP\\a&b"));
}

#[test]
fn faults_become_errors() {
    assert!(fault("NotAuthenticated", "").is_expired());
    let denied = fault(
        "NoPermission",
        r#"<object type="Datastore">datastore-1</object><privilegeId>Datastore.Browse</privilegeId>"#,
    );
    assert_eq!(
        denied.to_string(),
        "vSphere vc1 denies SearchDatastore_Task: Datastore.Browse is missing on datastore-1"
    );
    assert_eq!(denied.hint(), "assign the user a role with Datastore.Browse on datastore-1");
    assert_eq!(fault("FileNotFound", "<file>[a] b</file>").to_string(), "vSphere vc1 has no [a] b");
    assert_eq!(
        fault("ManagedObjectNotFound", r#"<obj type="Task">task-1</obj>"#).to_string(),
        "vSphere vc1 has no object task-1"
    );
    assert_eq!(
        fault("UserNotFound", "<principal>sf-1</principal><unresolved>false</unresolved>").to_string(),
        "vSphere vc1 has no user sf-1"
    );
    for kind in ["NotSupported", "NotImplemented", "MethodNotFound"] {
        assert!(fault(kind, "").is_not_supported(), "{kind}");
    }
    let other = fault("InvalidDatastore", "");
    assert_eq!(other.to_string(), "SearchDatastore_Task failed on vSphere vc1: InvalidDatastore (its         words)");
    assert_eq!(other.retry(), stackferry_https::Retry::Permanent);
    assert_eq!(fault("TaskInProgress", "").retry(), stackferry_https::Retry::Transient);
    assert!(fault("HostAccessRestrictedToManagementServer", "").hint().contains("vCenter"));
}

#[test]
fn an_untyped_fault_is_recognised_by_its_element() {
    let body = enveloped(
        "<soapenv:Fault><faultcode>a</faultcode><faultstring>b</faultstring><detail><NotAuthenticatedFault/></detail>\
         </soapenv:Fault>",
    );
    assert!(parse(CONTEXT, 500, None, &body).unwrap_err().is_expired());
    let unknown = enveloped(
        "<soapenv:Fault><faultcode>ClientFaultCode</faultcode>\
         <faultstring>Unable to resolve WSDL method name HasPrivilegeOnEntities</faultstring></soapenv:Fault>",
    );
    assert!(parse(CONTEXT, 500, None, &unknown).unwrap_err().is_not_supported());
    let bare = enveloped("<soapenv:Fault><faultcode>Server</faultcode><faultstring>no</faultstring></soapenv:Fault>");
    let error = parse(CONTEXT, 500, None, &bare).unwrap_err();
    assert!(matches!(&error, VsphereError::Fault { name, .. } if name == "Server"), "{error:?}");
}

#[test]
fn invalid_responses_are_reported() {
    let bad = |status: u16, body: &str| parse(CONTEXT, status, None, &Bytes::from(body.to_owned())).unwrap_err();
    for (status, body) in [
        (200, "<!DOCTYPE html><html></html>"),
        (200, "<html><body>Welcome</body></html>"),
        (200, "{}"),
        (200, ""),
        (500, "Internal Server Error"),
        (404, "<a/>"),
        (302, ""),
    ] {
        let error = bad(status, body);
        assert!(matches!(error, VsphereError::InvalidResponse { .. }), "{error:?}");
        assert!(error.hint().contains("vCenter"), "{}", error.hint());
    }
    let other = parse(CONTEXT, 200, None, &enveloped("<LoginResponse/>")).unwrap_err();
    assert!(matches!(other, VsphereError::InvalidResponse { .. }), "{other:?}");
    let busy = bad(503, "Service Unavailable");
    assert_eq!(busy.to_string(), "vSphere vc1 is not ready: HTTP 503");
    assert_eq!(busy.retry(), stackferry_https::Retry::Transient);
    parse(CONTEXT, 200, None, &enveloped("<SearchDatastore_TaskResponse/>")).unwrap();
}

#[test]
fn fault_texts_are_shortened() {
    let long = "x".repeat(5000);
    let VsphereError::Fault { text, .. } = CONTEXT.fault(&XmlNode { name: "Odd".into(), ..XmlNode::default() }, &long)
    else {
        panic!("another error");
    };
    assert_eq!(text.len(), MAX_FAULT_TEXT);
}

#[test]
fn bodies_other_than_soap_are_named() {
    for (unexpected, body, expected) in [
        (Some(UnexpectedContent::WebPage), "<html>", "web page"),
        (Some(UnexpectedContent::Compressed("gzip")), "\u{1f}", "compressed (gzip)"),
        (None, "", "empty"),
    ] {
        let error = parse(CONTEXT, 200, unexpected, &Bytes::from(body)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
