use proptest::prelude::*;

use super::*;

#[test]
fn attributes_are_matched_by_namespace() {
    let xml = br#"<?xml version="1.0"?><a:r xmlns:a="x" xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance">
        <v XMLSchema-instance:type="v25:InvalidLogin" type="Folder" a:type="no">one &amp; &lt;two&gt; &#x41;<![CDATA[<&>]]></v><e/>
        </a:r>"#;
    let root = XmlNode::parse(xml).unwrap();
    assert_eq!((&*root.name, root.text.as_str()), ("r", ""));
    let value = root.get("v").unwrap();
    assert_eq!(value.kind.as_deref(), Some("InvalidLogin"));
    assert_eq!(value.object.as_deref(), Some("Folder"));
    assert_eq!(value.text, "one & <two> A<&>");
    assert_eq!(root.text_of("e"), Some(""));
    assert!(root.get("w").is_none() && root.at(&["v", "w"]).is_none());
}

#[test]
fn hostile_xml_is_refused() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    XmlNode::parse(nested(MAX_DEPTH).as_bytes()).unwrap();
    for (xml, expected) in [
        (nested(MAX_DEPTH + 1), XmlError::TooDeep),
        (format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS)), XmlError::TooMany),
        (r#"<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>"#.to_owned(), XmlError::Entity),
        ("<a>&b;</a>".to_owned(), XmlError::Entity),
        ("<a type='&b;'/>".to_owned(), XmlError::Entity),
        (String::new(), XmlError::Malformed),
        ("text".to_owned(), XmlError::Malformed),
        ("<a>".to_owned(), XmlError::Malformed),
        ("<a></b>".to_owned(), XmlError::Malformed),
        ("<a/><b/>".to_owned(), XmlError::Malformed),
        ("<a/>text".to_owned(), XmlError::Malformed),
        ("<a x:type='b'/>".to_owned(), XmlError::Malformed),
        ("<!doctype html><html><body><br></body></html>".to_owned(), XmlError::Entity),
    ] {
        assert_eq!(XmlNode::parse(xml.as_bytes()).unwrap_err(), expected, "{:.60}", xml);
    }
    assert_eq!(XmlNode::parse(b"<a>\xff</a>").unwrap_err(), XmlError::Malformed);
}

#[test]
fn a_growing_writer_keeps_its_text() {
    let mut writer = XmlWriter::new();
    let long = "x".repeat(10_000);
    writer.within("a b=\"c\"", |writer| {
        writer.text("d", &long);
        writer.object("e", "F\"", "session[1]/2@<folder>");
    });
    let text = String::from_utf8(writer.into_bytes()).unwrap();
    assert_eq!(text, format!(r#"<a b="c"><d>{long}</d><e type="F&quot;">session[1]/2@&lt;folder&gt;</e></a>"#));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = XmlNode::parse(&bytes);
    }

    #[test]
    fn no_pieces_of_xml_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "<a>", "</a>", "<a/>", "<a", " b='c'", ">", "&amp;", "&#0;", "&#x110000;", "&x;", "<![CDATA[", "]]>", "<!--", "-->",
        "<?x", "?>", "<!DOCTYPE", "xmlns:x='y'", " x:type='z'", " type='&lt;'", "text", "\u{e9}", "\0", "<x:a xmlns:x=''>",
    ]), 0..40)) {
        let _ = XmlNode::parse(pieces.concat().as_bytes());
    }

    #[test]
    fn written_text_is_read_back(text in "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{fffe}\u{ffff}]{0,60}[\t\n\r]{0,3}x") {
        let mut writer = XmlWriter::new();
        writer.text("a", &text);
        prop_assert_eq!(XmlNode::parse(&writer.into_bytes()).unwrap().text, text);
    }
}
