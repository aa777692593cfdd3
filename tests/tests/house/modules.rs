//! The modules of each crate and what they import, read from the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// A module's path below its crate: `["copy", "commit"]`; the root is empty.
pub(crate) type ModulePath = Vec<String>;

/// One module file.
pub(crate) struct Module {
    /// Its syntax, without what is compiled for tests only.
    items: Vec<Item>,
}

/// All module files of a crate, by their paths; files of tests are left out.
pub(crate) fn modules(source: &Path) -> BTreeMap<ModulePath, Module> {
    let mut found = BTreeMap::new();
    let root = if source.join("lib.rs").exists() { "lib.rs" } else { "main.rs" };
    read(source, &source.join(root), Vec::new(), &mut found);
    found
}

fn read(folder: &Path, file: &Path, path: ModulePath, found: &mut BTreeMap<ModulePath, Module>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let items: Vec<Item> = syntax.items.into_iter().filter(|item| !is_test_only(attributes(item))).collect();
    for item in &items {
        if let Item::Mod(module) = item
            && module.content.is_none()
        {
            let name = module.ident.to_string();
            let child = folder.join(format!("{name}.rs"));
            read(&folder.join(&name), &child, [path.clone(), vec![name]].concat(), found);
        }
    }
    found.insert(path, Module { items });
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Const(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        _ => &[],
    }
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| one.path().is_ident("cfg") && one.meta.to_token_stream().to_string() == "cfg (test)")
}

/// The types that a module defines, private ones too; associated types are not types of its own.
pub(crate) fn types(module: &Module) -> Vec<String> {
    #[derive(Default)]
    struct Types(Vec<String>);
    impl<'a> Visit<'a> for Types {
        fn visit_item(&mut self, item: &'a Item) {
            if is_test_only(attributes(item)) {
                return;
            }
            match item {
                Item::Struct(one) => self.0.push(one.ident.to_string()),
                Item::Enum(one) => self.0.push(one.ident.to_string()),
                Item::Union(one) => self.0.push(one.ident.to_string()),
                Item::Trait(one) => self.0.push(one.ident.to_string()),
                Item::Type(one) => self.0.push(one.ident.to_string()),
                _ => {}
            }
            syn::visit::visit_item(self, item);
        }
    }
    let mut types = Types::default();
    module.items.iter().for_each(|item| types.visit_item(item));
    types.0
}

/// Which modules each module imports from its own crate. What the root only re-exports counts as the module that defines
/// it.
pub(crate) fn imports(modules: &BTreeMap<ModulePath, Module>) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    let exported = modules.get(&Vec::new()).map(reexported).unwrap_or_default();
    let mut all = BTreeMap::new();
    for (path, module) in modules {
        let mut paths = Paths::default();
        module.items.iter().for_each(|item| paths.visit_item(item));
        let imported = paths.0.iter().filter_map(|used| resolve(modules, &exported, path, used));
        all.insert(path.clone(), imported.filter(|used| used != path && !used.is_empty()).collect());
    }
    all.remove(&Vec::new());
    all
}

/// The names that a root re-exports, with the module that each comes from.
fn reexported(root: &Module) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for item in &root.items {
        if let Item::Use(one) = item {
            let mut paths = Vec::new();
            flatten(&one.tree, &mut Vec::new(), &mut paths);
            for path in paths {
                if let [module, .., name] = path.as_slice() {
                    found.insert(name.clone(), module.clone());
                }
            }
        }
    }
    found
}

/// The module that a path of names leads to.
fn resolve(
    modules: &BTreeMap<ModulePath, Module>,
    exported: &BTreeMap<String, String>,
    from: &ModulePath,
    names: &[String],
) -> Option<ModulePath> {
    let mut at = from.clone();
    let mut rest = names;
    match names.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &names[1..]),
        "self" => rest = &names[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        }
        first if modules.contains_key(&[from.clone(), vec![first.to_owned()]].concat()) => {}
        _ => return None,
    }
    for name in rest {
        let next = [at.clone(), vec![name.clone()]].concat();
        if modules.contains_key(&next) {
            at = next;
        } else if at.is_empty() {
            return exported.get(name).map(|module| vec![module.clone()]);
        } else {
            break;
        }
    }
    Some(at)
}

/// Every path of names in some items: imports, types, calls, and what stands in macros.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test_only(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if module.content.is_none() {
            self.0.push(vec!["self".to_owned(), module.ident.to_string()]);
        }
        syn::visit::visit_item_mod(self, module);
    }

    fn visit_item_use(&mut self, one: &'a syn::ItemUse) {
        flatten(&one.tree, &mut Vec::new(), &mut self.0);
    }

    // A visibility names a module, but imports nothing of it.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'a syn::Macro) {
        in_tokens(one.tokens.clone(), &mut self.0);
        syn::visit::visit_macro(self, one);
    }
}

fn flatten(tree: &UseTree, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, found);
            before.pop();
        }
        UseTree::Name(name) => found.push([before.clone(), vec![name.ident.to_string()]].concat()),
        UseTree::Rename(name) => found.push([before.clone(), vec![name.ident.to_string()]].concat()),
        UseTree::Glob(_) => found.push(before.clone()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, found)),
    }
}

/// Names that are joined by `::` among a macro's tokens.
fn in_tokens(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 && !path.is_empty() {
                    found.push(std::mem::take(&mut path));
                }
                path.push(name.to_string());
                colons = 0;
                continue;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Group(group) => in_tokens(group.stream(), found),
            _ => {}
        }
        if !path.is_empty() {
            found.push(std::mem::take(&mut path));
        }
        colons = 0;
    }
    if !path.is_empty() {
        found.push(path);
    }
}

/// The groups of modules that import each other in a circle, but for a module and its own direct children.
pub(crate) fn circles(imports: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
        imports.keys().map(|from| (from, reachable(imports, from))).collect();
    let mut found = BTreeSet::new();
    for (one, reached) in &reach {
        let circle: BTreeSet<&ModulePath> =
            reached.iter().copied().filter(|other| reach.get(other).is_some_and(|back| back.contains(one))).collect();
        if circle.len() > 1 && !is_a_facade_with_its_children(&circle) {
            found.insert(circle.iter().map(|path| path.join("::")).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(
    imports: &'a BTreeMap<ModulePath, BTreeSet<ModulePath>>,
    from: &'a ModulePath,
) -> BTreeSet<&'a ModulePath> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(one) = waiting.pop() {
        if reached.insert(one) {
            waiting.extend(imports.get(one).into_iter().flatten());
        }
    }
    reached
}

fn is_a_facade_with_its_children(circle: &BTreeSet<&ModulePath>) -> bool {
    let Some(facade) = circle.iter().min_by_key(|path| path.len()) else { return true };
    circle.iter().all(|path| path == facade || path.split_last().is_some_and(|(_, parent)| parent == facade.as_slice()))
}
