//! Finds every file that a program needs in order to start, by doing what ld.so(8) does, in its order,
//! without running anything.
//!
//! For a library that is needed (DT_NEEDED) the GNU loader looks in
//!
//! 1. the directories of DT_RPATH of the file that needs it, and of the files through which that one was
//!    loaded (unless it has a DT_RUNPATH);
//! 2. LD_LIBRARY_PATH, which is left out here: it is the caller's, not the root file system's;
//! 3. the directories of DT_RUNPATH;
//! 4. /etc/ld.so.cache;
//! 5. its default directories.
//!
//! musl's loader treats DT_RUNPATH as DT_RPATH and has /etc/ld-musl-ARCH.path in place of 4 and 5. What a
//! program loads later by dlopen(3) stands in no table, so nothing can find it by reading.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use crate::elf::Elf;
use crate::error::Doing;
use crate::ld_cache::LdCache;
use crate::tree::{inside, walk};

/// The loader's cache, as a path inside.
pub(crate) const CACHE: &str = "/etc/ld.so.cache";

/// The loader of the tree at `root`; all other paths here are as seen inside it.
pub(crate) struct Loader {
    root: PathBuf,
    cache: LdCache,
}

/// A file on its way through the loader.
struct Object {
    path: PathBuf,
    elf: Elf,
    /// The directories of its own DT_RPATH, and of the objects that led to it.
    search: Rc<Vec<PathBuf>>,
}

/// What the program's interpreter says about the search.
struct Rules {
    is_musl: bool,
    defaults: Vec<PathBuf>,
}

impl Loader {
    pub(crate) fn new(root: &Path) -> Result<Loader> {
        let cache = match walk(root, Path::new(CACHE)) {
            Ok(walk) => LdCache::read(&inside(root, &walk.real))?,
            Err(error) if error.kind() == ErrorKind::NotFound => LdCache::default(),
            Err(error) => return Err(error).doing("look up", Path::new(CACHE)),
        };
        Ok(Loader { root: root.to_owned(), cache })
    }

    /// The paths at which files are looked up when `program` is run, its own included. Each path may lead
    /// through symbolic links.
    pub(crate) fn files_of(&self, program: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::from([program.to_owned()]);
        match self.open(program)?.with_context(|| format!("{program:?} does not exist"))? {
            Some(elf) => self.add_libraries(program, elf, &mut files)?,
            None => {
                for interpreter in self.script_interpreters(program)? {
                    files.extend(self.files_of(&interpreter)?);
                }
            }
        }
        Ok(files)
    }

    /// All places at which the loader of `program` may find the library `name`.
    pub(crate) fn find(&self, name: &OsStr, program: &Path) -> Result<Vec<PathBuf>> {
        let Some(Some(elf)) = self.open(program)? else { bail!("{program:?} is no ELF program") };
        let rules = self.rules(elf.interpreter.as_deref().unwrap_or(Path::new("")))?;
        self.search(name, &Object { path: program.to_owned(), elf, search: Rc::default() }, &rules)
    }

    /// Walks the graph of libraries breadth first, as the loader does: a name that is loaded is not looked
    /// up again.
    fn add_libraries(&self, program: &Path, elf: Elf, files: &mut BTreeSet<PathBuf>) -> Result<()> {
        // Without an interpreter nobody would look at DT_NEEDED: the program is static.
        let Some(interpreter) = elf.interpreter.clone() else { return Ok(()) };
        ensure!(
            self.open(&interpreter)?.is_some(),
            "{program:?} needs the loader {interpreter:?}, which does not exist"
        );
        let rules = self.rules(&interpreter)?;
        files.insert(interpreter);
        files.extend(rules.is_musl.then(|| PathBuf::from(musl_path_file())).filter(|path| self.exists(path)));

        let mut loaded = HashSet::new();
        // $ORIGIN of a program is where it really is: the loader reads /proc/self/exe.
        let real = walk(&self.root, program).doing("look up", program)?.real;
        let mut queue = VecDeque::from([Object::new(real, elf, &rules, &[])]);
        while let Some(object) = queue.pop_front() {
            for name in &object.elf.needed {
                if !loaded.insert(name.clone()) || rules.is_musl && is_part_of_musl(name) {
                    continue;
                }
                let paths = self.search(name, &object, &rules)?;
                let path = paths
                    .first()
                    .with_context(|| format!("{:?} needs {name:?}, which is found nowhere", object.path))?;
                if let Some(Some(elf)) = self.open(path)? {
                    queue.push_back(Object::new(path.clone(), elf, &rules, &object.search));
                }
                files.extend(paths);
            }
        }
        Ok(())
    }

    /// The paths at which a library is found: first the one that the loader takes; after it, if it comes
    /// from the cache, the variants of which another processor's loader would take one.
    fn search(&self, name: &OsStr, object: &Object, rules: &Rules) -> Result<Vec<PathBuf>> {
        if name.as_encoded_bytes().contains(&b'/') {
            return self.first_usable([PathBuf::from(name)], object);
        }
        let runpath =
            if rules.is_musl { Vec::new() } else { directories(object.elf.runpath.as_deref(), &object.path) };
        let has_runpath = !runpath.is_empty();
        let own = if has_runpath { &runpath } else { &*object.search };
        let found = self.first_usable(own.iter().map(|directory| directory.join(name)), object)?;
        if !found.is_empty() || !object.elf.uses_defaults {
            return Ok(found);
        }
        let mut cached = Vec::new();
        for path in self.cache.paths(name).filter(|_| !rules.is_musl) {
            cached.extend(self.first_usable([path.to_owned()], object)?);
        }
        if !cached.is_empty() {
            return Ok(cached);
        }
        self.first_usable(rules.defaults.iter().map(|directory| directory.join(name)), object)
    }

    /// The first of the paths that is a library for the same architecture; the loader passes over others.
    fn first_usable(
        &self,
        paths: impl IntoIterator<Item = PathBuf>,
        object: &Object,
    ) -> Result<Vec<PathBuf>> {
        for path in paths {
            if matches!(self.open(&path)?, Some(Some(elf)) if elf.machine == object.elf.machine) {
                return Ok(vec![path]);
            }
        }
        Ok(Vec::new())
    }

    /// Reads a file. None if there is no such file, Some(None) if it is no ELF file.
    fn open(&self, path: &Path) -> Result<Option<Option<Elf>>> {
        match walk(&self.root, path) {
            Ok(walk) => {
                let file = inside(&self.root, &walk.real);
                if file.is_dir() { Ok(None) } else { Elf::read(&file).map(Some) }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).doing("look up", path),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        walk(&self.root, path).is_ok()
    }

    fn rules(&self, interpreter: &Path) -> Result<Rules> {
        let name = interpreter.file_name().unwrap_or_default();
        let is_musl = name.as_encoded_bytes().starts_with(b"ld-musl-");
        let defaults = if is_musl { self.musl_defaults()? } else { gnu_defaults() };
        Ok(Rules { is_musl, defaults })
    }

    fn musl_defaults(&self) -> Result<Vec<PathBuf>> {
        let path = inside(&self.root, Path::new(&musl_path_file()));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => "/lib:/usr/local/lib:/usr/lib".to_owned(),
            other => other.doing("read", &path)?,
        };
        Ok(text.split([':', '\n']).filter(|part| !part.is_empty()).map(PathBuf::from).collect())
    }

    /// What the first line of a script names: `#!/bin/sh`, and for `#!/usr/bin/env bash` bash as well.
    fn script_interpreters(&self, script: &Path) -> Result<Vec<PathBuf>> {
        let file = inside(&self.root, &walk(&self.root, script).doing("look up", script)?.real);
        let content = fs::read(&file).doing("read", &file)?;
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line
            .strip_prefix(b"#!")
            .with_context(|| format!("{script:?} is neither an ELF file nor a script"))?;
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace();
        let interpreter =
            PathBuf::from(words.next().with_context(|| format!("{script:?} names no interpreter"))?);
        let mut interpreters = vec![interpreter.clone()];
        if interpreter.ends_with("env") {
            let name = words.find(|word| !word.starts_with('-')).unwrap_or_default();
            interpreters.extend(find_program(&self.root, name));
        }
        ensure!(!interpreters.contains(&script.to_owned()), "{script:?} names itself as its interpreter");
        Ok(interpreters)
    }
}

impl Object {
    fn new(path: PathBuf, elf: Elf, rules: &Rules, inherited: &[PathBuf]) -> Object {
        let own = match &elf.runpath {
            None => elf.rpath.as_deref(),
            Some(runpath) => rules.is_musl.then_some(runpath.as_os_str()),
        };
        let search = Rc::new([directories(own, &path), inherited.to_vec()].concat());
        Object { path, elf, search }
    }
}

/// Where programs are looked for, inside. /bin comes before /usr/bin, so that /bin/sh is there under this
/// name.
pub(crate) const PROGRAM_DIRECTORIES: [&str; 4] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"];

/// The first program of this name.
pub(crate) fn find_program(root: &Path, name: &str) -> Option<PathBuf> {
    let candidates = PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name));
    candidates.into_iter().find(|path| walk(root, path).is_ok_and(|walk| inside(root, &walk.real).is_file()))
}

/// The directories in a DT_RPATH or DT_RUNPATH, where $ORIGIN stands for the directory of the file that has
/// it.
fn directories(list: Option<&OsStr>, object: &Path) -> Vec<PathBuf> {
    let list = list.unwrap_or_default().to_string_lossy();
    let origin = object.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let expanded = list.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
    expanded.split(':').filter(|part| part.starts_with('/')).map(PathBuf::from).collect()
}

/// What is compiled into the GNU loader: Debian's multiarch directories, and the plain ones.
fn gnu_defaults() -> Vec<PathBuf> {
    let multiarch = [format!("/lib/{ARCH}-linux-gnu"), format!("/usr/lib/{ARCH}-linux-gnu")];
    let plain = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(String::from);
    multiarch.into_iter().chain(plain).map(PathBuf::from).collect()
}

fn musl_path_file() -> String {
    format!("/etc/ld-musl-{ARCH}.path")
}

/// musl is one file, so its loader answers for these names itself.
fn is_part_of_musl(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let part = name.strip_prefix("lib").and_then(|rest| rest.split('.').next());
    matches!(part, Some("c" | "pthread" | "rt" | "m" | "dl" | "util" | "xnet"))
}
