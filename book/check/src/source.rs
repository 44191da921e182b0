//! Rust sources as the checks read them: a crate's modules, file by file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::{Attribute, Item};

/// A module with a file of its own.
pub struct Module {
    /// Its file.
    pub file: PathBuf,
    /// Its text, line by line.
    pub text: String,
    /// Its items.
    pub items: Vec<Item>,
    /// The modules that it declares with `mod name;`, by name.
    pub children: Vec<(String, Module)>,
}

impl Module {
    /// Reads a crate from its root (`src/main.rs`, `src/lib.rs`) with every module that it declares.
    pub fn open(root: &Path) -> Result<Module> {
        let directory = root.parent().unwrap_or(Path::new(""));
        Module::read(root, directory)
    }

    fn read(file: &Path, directory: &Path) -> Result<Module> {
        let text = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
        let items = syn::parse_file(&text).with_context(|| format!("parse {file:?}"))?.items;
        let mut children = Vec::new();
        for item in &items {
            // A module with a body stands in this file already.
            let Item::Mod(module) = item else { continue };
            if module.content.is_some() {
                continue;
            }
            let name = module.ident.to_string();
            let below = directory.join(&name);
            let candidates = [directory.join(format!("{name}.rs")), below.join("mod.rs")];
            let Some(child) = candidates.iter().find(|path| path.is_file()) else {
                bail!("{file:?} declares `mod {name}`, which has no file");
            };
            children.push((name, Module::read(child, &below)?));
        }
        Ok(Module { file: file.to_path_buf(), text, items, children })
    }

    /// This module and all below it.
    pub fn all(&self) -> Vec<&Module> {
        let mut modules = vec![self];
        for (_, child) in &self.children {
            modules.extend(child.all());
        }
        modules
    }

    /// The child module of that name.
    pub fn child(&self, name: &str) -> Option<&Module> {
        self.children.iter().find(|(child, _)| child == name).map(|(_, module)| module)
    }
}

/// Whether `#[derive(...)]` among the attributes names one of `traits`, with or without a path in front.
pub fn derives(attributes: &[Attribute], traits: &[&str]) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        // A derive that does not parse is the compiler's to report.
        let _ = attribute.parse_nested_meta(|meta| {
            let last = meta.path.segments.last();
            found |= last.is_some_and(|segment| traits.iter().any(|name| segment.ident == name));
            Ok(())
        });
    }
    found
}
