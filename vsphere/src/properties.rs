//! Properties of many objects: through a view of the inventory and the property collector, page by page.

use crate::error::VsphereError;
use crate::model::Moid;
use crate::session::Session;
use crate::soap;
use crate::xml::{Node, Writer};

/// How many objects one answer has. A virtual machine's devices take up to 50 KiB.
const PAGE: usize = 100;
/// How many pages are read. A vCenter Server has at most 45,000 virtual machines.
const MAX_PAGES: usize = 2000;

/// Which properties of objects of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) kind: &'static str,
    pub(crate) paths: &'static [&'static str],
}

/// An object with the properties that it has.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) id: Moid,
    properties: Vec<(String, Node)>,
    /// Why one was not told, where that was a denial.
    denied: Option<VsphereError>,
    /// Which others are missing, each with the fault's name.
    missing: Vec<(String, String)>,
}

impl Object {
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|value| value.text.as_str())
    }

    pub(crate) fn moid(&self, path: &str) -> Option<Moid> {
        self.get(path).and_then(soap::moid)
    }

    pub(crate) fn take(&mut self, path: &str) -> Option<Node> {
        self.properties.iter_mut().find(|(name, _)| name == path).map(|(_, value)| std::mem::take(value))
    }

    /// The name of the fault that a property is missing for, whether it is named itself or what it is part of.
    pub(crate) fn fault(&self, path: &str) -> Option<&str> {
        let is_of =
            |missing: &str| path.strip_prefix(missing).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.missing.iter().find(|(missing, _)| is_of(missing)).map(|(_, fault)| fault.as_str())
    }

    /// An error where something of it was denied: for answers that would be wrong without it.
    pub(crate) fn complete(&self) -> Result<(), VsphereError> {
        self.denied.clone().map_or(Ok(()), Err)
    }
}

/// Hands each object of those types, wherever in the inventory, to `each`.
pub(crate) async fn for_all(
    session: &Session,
    wanted: &[Wanted],
    each: impl FnMut(Object) -> Result<(), VsphereError> + Send,
) -> Result<(), VsphereError> {
    let view = make_view(session, wanted).await?;
    let outcome =
        pages(session, |writer| writer.within("specSet", |writer| specification(writer, wanted, &view)), each).await;
    // It would go with the session anyway.
    if let Err(error) = session.call("DestroyView", &view, |_| {}).await {
        tracing::debug!(system = session.system(), %error, "a view stays until the session ends");
    }
    outcome
}

/// Properties of one object.
pub(crate) async fn of_one(session: &Session, object: &Moid, paths: &[&str]) -> Result<Object, VsphereError> {
    let mut found = None;
    let write = |writer: &mut Writer| {
        writer.within("specSet", |writer| {
            property_set(writer, &object.kind, paths);
            writer.within("objectSet", |writer| {
                writer.object("obj", &object.kind, &object.value);
                writer.text("skip", "false");
            });
        });
    };
    pages(session, write, |object| {
        found = Some(object);
        Ok(())
    })
    .await?;
    found.ok_or_else(|| VsphereError::Gone { system: session.system().to_owned(), object: object.to_string() })
}

/// A view of all objects of those types.
pub(crate) async fn make_view(session: &Session, wanted: &[Wanted]) -> Result<Moid, VsphereError> {
    let call = "CreateContainerView";
    let content = session.content();
    let manager = content.views.as_ref().ok_or_else(|| session.asked(call).not_supported())?;
    let response = session
        .call(call, manager, |writer| {
            writer.object("container", &content.root.kind, &content.root.value);
            wanted.iter().for_each(|wanted| writer.text("type", wanted.kind));
            writer.text("recursive", "true");
        })
        .await?;
    response.get("returnval").and_then(soap::moid).ok_or_else(|| session.asked(call).bad("it has no view"))
}

/// What stands in a `PropertyFilterSpec` for objects of a view.
pub(crate) fn specification(writer: &mut Writer, wanted: &[Wanted], view: &Moid) {
    for wanted in wanted {
        property_set(writer, wanted.kind, wanted.paths);
    }
    writer.within("objectSet", |writer| {
        writer.object("obj", &view.kind, &view.value);
        writer.text("skip", "true");
        writer.within(r#"selectSet xsi:type="TraversalSpec""#, |writer| {
            writer.text("name", "inView");
            writer.text("type", &view.kind);
            writer.text("path", "view");
            writer.text("skip", "false");
        });
    });
}

fn property_set(writer: &mut Writer, kind: &str, paths: &[&str]) {
    writer.within("propSet", |writer| {
        writer.text("type", kind);
        paths.iter().for_each(|path| writer.text("pathSet", path));
    });
}

async fn pages(
    session: &Session,
    specification: impl FnOnce(&mut Writer),
    mut each: impl FnMut(Object) -> Result<(), VsphereError>,
) -> Result<(), VsphereError> {
    let collector = &session.content().properties;
    let mut call = "RetrievePropertiesEx";
    let mut response = session
        .call(call, collector, |writer| {
            specification(writer);
            writer.within("options", |writer| writer.text("maxObjects", &PAGE.to_string()));
        })
        .await?;
    for _ in 0..MAX_PAGES {
        let token = response
            .get("returnval")
            .and_then(|page| page.text_of("token"))
            .filter(|token| !token.is_empty())
            .map(str::to_owned);
        let page = response.children.into_iter().find(|child| &*child.name == "returnval").unwrap_or_default();
        for object in page.children.into_iter().filter(|child| &*child.name == "objects") {
            each(read(session, call, object)?)?;
        }
        let Some(token) = token else { return Ok(()) };
        call = "ContinueRetrievePropertiesEx";
        response = session.call(call, collector, |writer| writer.text("token", &token)).await?;
    }
    Err(session.asked(call).bad("it does not end"))
}

fn read(session: &Session, call: &'static str, object: Node) -> Result<Object, VsphereError> {
    let asked = session.asked(call);
    let id = object.get("obj").and_then(soap::moid).ok_or_else(|| asked.bad("an object has no id"))?;
    let mut denied = None;
    let mut faults = Vec::new();
    for missing in object.all("missingSet") {
        let Some(fault) = missing.at(&["fault", "fault"]) else { continue };
        let text = missing.get("fault").and_then(|fault| fault.text_of("localizedMessage")).unwrap_or_default();
        let path = missing.text_of("path").unwrap_or_default().to_owned();
        faults.push((path, soap::fault_name(fault).to_owned()));
        match asked.fault(fault, text) {
            error if error.is_expired() => return Err(error),
            VsphereError::NoPermission { system, call, privilege, object } => {
                // Not every server says on what.
                let object = if object.is_empty() { id.value.clone() } else { object };
                denied.get_or_insert(VsphereError::NoPermission { system, call, privilege, object });
            }
            _ => {}
        }
    }
    let mut properties = Vec::new();
    for mut property in object.children.into_iter().filter(|child| &*child.name == "propSet") {
        let name = property.text_of("name").unwrap_or_default().to_owned();
        if let Some(value) = property.children.iter_mut().find(|child| &*child.name == "val") {
            properties.push((name, std::mem::take(value)));
        }
    }
    Ok(Object { id, properties, denied, missing: faults })
}
