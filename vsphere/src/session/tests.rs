use super::version::listed;
use super::*;

fn versions(list: &[&str]) -> Vec<ApiVersion> {
    let prior: String = list.iter().map(|version| format!("<version>{version}</version>")).collect();
    listed(
        format!(
            "<namespaces version=\"1.0\"><namespace><name>urn:vim2</name><version>2.5</version></namespace><namespace>\
             <name>urn:vim25</name><version>8.0.2.0</version><priorVersions>{prior}</priorVersions></namespace></namespaces>"
        )
        .as_bytes(),
    )
}

#[test]
fn the_lowest_sufficient_version_is_used() {
    let all = versions(&["8.0.1.0", "7.0.3.2", "7.0", "6.7.3", "6.5", "6.0", "5.5", "4.0", "odd", "1.2.3.4.5"]);
    assert_eq!(ApiVersion::choose(&all, ApiVersion::BASE).to_string(), "6.0");
    assert_eq!(ApiVersion::choose(&all, ApiVersion::FRIENDLY_NAMES).to_string(), "6.5");
    assert_eq!(ApiVersion::choose(&all, ApiVersion::THUMBPRINTS).to_string(), "7.0.3.2");

    let new = versions(&["8.0.0.1"]);
    assert_eq!(ApiVersion::choose(&new, ApiVersion::BASE).to_string(), "8.0.0.1");

    let old = listed(b"<namespaces><namespace><name>urn:vim25</name><version>6.5</version></namespace></namespaces>");
    assert_eq!(ApiVersion::choose(&old, ApiVersion::THUMBPRINTS).to_string(), "6.5");
}

#[test]
fn an_invalid_version_list_means_the_oldest() {
    for body in ["", "<html/>", "<namespaces/>", "<!DOCTYPE a><namespaces/>"] {
        let none = listed(body.as_bytes());
        assert!(none.is_empty());
        assert_eq!(ApiVersion::choose(&none, ApiVersion::THUMBPRINTS).to_string(), "6.0");
    }
}
