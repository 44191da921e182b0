//! Public items: what a chapter's library offers is what its pages explain.
//!
//! An item counts as explained where a page includes the line that names it, or names it in code font
//! (`spawn`, `Gate::open`, `mount()`). Methods count with their type.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use syn::{Ident, Item, UseTree, Visibility};

use crate::Problem;
use crate::includes::{self, Shown};
use crate::page::{self, Book};
use crate::source::Module;

/// Reports each public item of each chapter's library that no page shows or names.
pub fn check(book: &Book) -> Result<Vec<Problem>> {
    let shown = includes::shown(book)?;
    let named: BTreeSet<String> = names_in_code_font(book);
    let mut problems = Vec::new();
    for chapter in book.chapters()? {
        let library = book.root.join(&chapter).join("src/lib.rs");
        if !library.is_file() {
            continue;
        }
        for public in items(&Module::open(&library)?) {
            let file = page::relative(&book.root, &public.file);
            if !is_shown(&shown, &file, public.line) && !named.contains(&public.name) {
                let what = format!("no page shows or names the public `{}`", public.name);
                problems.push(Problem::new(file, public.line, what));
            }
        }
    }
    Ok(problems)
}

fn is_shown(shown: &Shown, file: &Path, line: usize) -> bool {
    shown.get(file).is_some_and(|lines| lines.contains(&line))
}

/// A public item: its name and the line that names it.
struct Public {
    name: String,
    file: std::path::PathBuf,
    line: usize,
}

/// Everything that a user of the crate can name, re-exports followed.
fn items(root: &Module) -> Vec<Public> {
    let mut found = Vec::new();
    collect(root, root, &root.items, &mut found);
    found
}

/// Collects the public ones of `items`, which stand in `module`.
fn collect(root: &Module, module: &Module, items: &[Item], found: &mut Vec<Public>) {
    for item in items {
        match item {
            Item::Use(import) if is_public(&import.vis) => {
                reexport(root, module, &import.tree, found);
            }
            Item::Mod(inner) if is_public(&inner.vis) => match &inner.content {
                Some((_, items)) => collect(root, module, items, found),
                None => {
                    if let Some(child) = module.child(&inner.ident.to_string()) {
                        collect(root, child, &child.items, found);
                    }
                }
            },
            _ => found.extend(public_name(item).map(|name| public(module, name))),
        }
    }
}

fn public(module: &Module, name: &Ident) -> Public {
    Public { name: name.to_string(), file: module.file.clone(), line: name.span().start().line }
}

/// Follows `pub use` into the crate's own modules; what another crate owns is explained where it is made.
fn reexport(root: &Module, module: &Module, tree: &UseTree, found: &mut Vec<Public>) {
    match tree {
        UseTree::Path(path) => {
            let next = match path.ident.to_string().as_str() {
                "crate" => Some(root),
                "self" => Some(module),
                name => module.child(name),
            };
            if let Some(next) = next {
                reexport(root, next, &path.tree, found);
            }
        }
        UseTree::Name(name) => export(root, module, &name.ident, found),
        UseTree::Rename(rename) => export(root, module, &rename.ident, found),
        UseTree::Glob(_) => collect(root, module, &module.items, found),
        UseTree::Group(group) => {
            for tree in &group.items {
                reexport(root, module, tree, found);
            }
        }
    }
}

/// Adds the one item of `module` that is called `name`: a module's items, or the item itself.
fn export(root: &Module, module: &Module, name: &Ident, found: &mut Vec<Public>) {
    if let Some(child) = module.child(&name.to_string()) {
        collect(root, child, &child.items, found);
    }
    let same = |item: &&Item| public_name(item).is_some_and(|candidate| candidate == name);
    if let Some(name) = module.items.iter().find(same).and_then(public_name) {
        found.push(public(module, name));
    }
}

/// The name of an item that is `pub` without restriction.
fn public_name(item: &Item) -> Option<&Ident> {
    let (visibility, name) = match item {
        Item::Fn(item) => (&item.vis, &item.sig.ident),
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Union(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        Item::Type(item) => (&item.vis, &item.ident),
        Item::Const(item) => (&item.vis, &item.ident),
        Item::Static(item) => (&item.vis, &item.ident),
        _ => return None,
    };
    is_public(visibility).then_some(name)
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The items that pages name in code font: the last part of each path, without its arguments.
fn names_in_code_font(book: &Book) -> BTreeSet<String> {
    let path = regex::Regex::new(r"^(?:\w+::)*(\w+)(?:\(.*\)|<.*>)?$").expect("a valid pattern");
    let mut names = BTreeSet::new();
    for (_, code) in book.pages.iter().flat_map(|page| &page.code) {
        if let Some(found) = path.captures(code) {
            names.insert(found[1].to_string());
            // `Gate::open` explains the type as well as its method.
            names.extend(code.split("::").map(str::to_string));
        }
    }
    names
}
