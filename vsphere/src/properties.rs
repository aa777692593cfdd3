//! Properties of many objects, read page by page through a view of the inventory and the property collector.

use crate::error::VsphereError;
use crate::model::Moid;
use crate::session::Session;
use crate::soap;
use crate::xml::{XmlNode, XmlWriter};

/// How many objects one response has. The devices of a virtual machine take up to 50 KiB.
const PAGE_SIZE: usize = 100;
/// The most pages that are read. A vCenter Server has at most 45,000 virtual machines.
const MAX_PAGES: usize = 2000;

/// The properties to read of objects of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PropertySpec {
    pub(crate) kind: &'static str,
    pub(crate) paths: &'static [&'static str],
}

/// An object with its properties.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) id: Moid,
    properties: Vec<(String, XmlNode)>,
    /// The first permission error for a property.
    denied: Option<VsphereError>,
    /// The missing properties, each with the name of its fault.
    missing: Vec<(String, String)>,
}

impl Object {
    pub(crate) fn get(&self, path: &str) -> Option<&XmlNode> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|value| value.text.as_str())
    }

    pub(crate) fn moid(&self, path: &str) -> Option<Moid> {
        self.get(path).and_then(soap::moid)
    }

    pub(crate) fn take(&mut self, path: &str) -> Option<XmlNode> {
        self.properties.iter_mut().find(|(name, _)| name == path).map(|(_, value)| std::mem::take(value))
    }

    /// The name of the fault for a missing property, or for the property that contains it.
    pub(crate) fn fault(&self, path: &str) -> Option<&str> {
        let is_of =
            |missing: &str| path.strip_prefix(missing).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.missing.iter().find(|(missing, _)| is_of(missing)).map(|(_, fault)| fault.as_str())
    }

    /// An error if a property was denied, for results that would be wrong without it.
    pub(crate) fn complete(&self) -> Result<(), VsphereError> {
        self.denied.clone().map_or(Ok(()), Err)
    }
}

/// Calls `each` with every object of those types in the inventory.
pub(crate) async fn for_each_object(
    session: &Session,
    specs: &[PropertySpec],
    each: impl FnMut(Object) -> Result<(), VsphereError> + Send,
) -> Result<(), VsphereError> {
    let view = create_view(session, specs).await?;
    let outcome =
        pages(session, |writer| writer.within("specSet", |writer| specification(writer, specs, &view)), each).await;
    // The view would end with the session anyway.
    if let Err(error) = session.call("DestroyView", &view, |_| {}).await {
        tracing::debug!(system = session.system(), %error, "failed to destroy a view; it ends with the session");
    }
    outcome
}

/// Properties of one object.
pub(crate) async fn of_object(session: &Session, object: &Moid, paths: &[&str]) -> Result<Object, VsphereError> {
    let mut found = None;
    let write = |writer: &mut XmlWriter| {
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
pub(crate) async fn create_view(session: &Session, specs: &[PropertySpec]) -> Result<Moid, VsphereError> {
    let call = "CreateContainerView";
    let content = session.content();
    let manager = content.views.as_ref().ok_or_else(|| session.context(call).not_supported())?;
    let response = session
        .call(call, manager, |writer| {
            writer.object("container", &content.root.kind, &content.root.value);
            specs.iter().for_each(|spec| writer.text("type", spec.kind));
            writer.text("recursive", "true");
        })
        .await?;
    response
        .get("returnval")
        .and_then(soap::moid)
        .ok_or_else(|| session.context(call).invalid_response("it has no view"))
}

/// The content of a `PropertyFilterSpec` for the objects of a view.
pub(crate) fn specification(writer: &mut XmlWriter, specs: &[PropertySpec], view: &Moid) {
    for spec in specs {
        property_set(writer, spec.kind, spec.paths);
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

fn property_set(writer: &mut XmlWriter, kind: &str, paths: &[&str]) {
    writer.within("propSet", |writer| {
        writer.text("type", kind);
        paths.iter().for_each(|path| writer.text("pathSet", path));
    });
}

async fn pages(
    session: &Session,
    specification: impl FnOnce(&mut XmlWriter),
    mut each: impl FnMut(Object) -> Result<(), VsphereError>,
) -> Result<(), VsphereError> {
    let collector = &session.content().properties;
    let mut call = "RetrievePropertiesEx";
    let mut response = session
        .call(call, collector, |writer| {
            specification(writer);
            writer.within("options", |writer| writer.text("maxObjects", &PAGE_SIZE.to_string()));
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
            each(parse(session, call, object)?)?;
        }
        let Some(token) = token else { return Ok(()) };
        call = "ContinueRetrievePropertiesEx";
        response = session.call(call, collector, |writer| writer.text("token", &token)).await?;
    }
    Err(session.context(call).invalid_response("it never ends"))
}

fn parse(session: &Session, call: &'static str, object: XmlNode) -> Result<Object, VsphereError> {
    let context = session.context(call);
    let id = object.get("obj").and_then(soap::moid).ok_or_else(|| context.invalid_response("an object has no id"))?;
    let mut denied = None;
    let mut faults = Vec::new();
    for missing in object.all("missingSet") {
        let Some(fault) = missing.at(&["fault", "fault"]) else { continue };
        let text = missing.get("fault").and_then(|fault| fault.text_of("localizedMessage")).unwrap_or_default();
        let path = missing.text_of("path").unwrap_or_default().to_owned();
        faults.push((path, soap::fault_name(fault).to_owned()));
        match context.fault(fault, text) {
            error if error.is_expired() => return Err(error),
            VsphereError::NoPermission { system, call, privilege, object } => {
                // Some servers omit the object.
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
