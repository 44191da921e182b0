//! Reading of directories.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use testing::needs;

use crate::mounted::{in_both_ways, names, write};

/// A stream of opendir(3), whose place can be told and sought.
struct Stream(*mut libc::DIR);

unsafe extern "C" {
    fn telldir(stream: *mut libc::DIR) -> libc::c_long;
    fn seekdir(stream: *mut libc::DIR, place: libc::c_long);
}

impl Stream {
    fn open(path: &Path) -> Stream {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string.
        let stream = unsafe { libc::opendir(path.as_ptr()) };
        assert!(!stream.is_null());
        Stream(stream)
    }

    fn next(&mut self) -> Option<String> {
        // SAFETY: the stream is open; the entry is copied before the next call.
        unsafe {
            let entry = libc::readdir(self.0);
            if entry.is_null() {
                return None;
            }
            Some(std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()).to_string_lossy().into_owned())
        }
    }

    fn tell(&mut self) -> libc::c_long {
        // SAFETY: the stream is open.
        unsafe { telldir(self.0) }
    }

    fn seek(&mut self, place: libc::c_long) {
        // SAFETY: the stream is open, and the place is one that it told.
        unsafe { seekdir(self.0, place) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: it is open, and used no more.
        unsafe { libc::closedir(self.0) };
    }
}

fn branches(directory: &Path) {
    for number in 0..1000 {
        let branch = if number % 2 == 0 { "lower" } else { "middle" };
        write(directory.join(format!("{branch}/d/name{number:04}")), "");
    }
}

#[test]
fn a_place_that_was_told_stays_while_names_come_and_go() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        let mut stream = Stream::open(&union.path("d"));
        let mut places = Vec::new();
        let mut order = Vec::new();
        loop {
            places.push(stream.tell());
            let Some(name) = stream.next() else { break };
            order.push(name);
        }
        assert_eq!(order.len(), 1002);
        for number in 0..100 {
            fs::remove_file(union.path(&format!("d/name{:04}", number * 7))).unwrap();
            write(union.path(&format!("d/new{number}")), "");
        }
        let mut other = Stream::open(&union.path("d"));
        other.next();
        for (place, name) in places.iter().zip(&order).rev().step_by(13) {
            stream.seek(*place);
            if union.path("d").join(name).exists() {
                let rest: Vec<String> = std::iter::from_fn(|| stream.next()).collect();
                assert!(rest.contains(name), "{name} is behind the place where it was");
                let gone =
                    order.iter().take_while(|before| *before != name).find(|before| rest.contains(before));
                assert_eq!(gone, None, "what came before {name} does not come again");
            }
        }
    });
}

#[test]
fn names_that_stay_are_read_once_each_while_others_come_and_go() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        for round in 0..3 {
            let mut stream = Stream::open(&union.path("d"));
            let mut seen = Vec::new();
            while let Some(name) = stream.next() {
                if seen.len() % 50 == 0 {
                    write(union.path(&format!("d/come{round}{}", seen.len())), "");
                    names(union.path("d"));
                }
                // It may be gone already.
                if seen.len() % 70 == 0 {
                    fs::remove_file(union.path(&format!("d/come{round}{}", seen.len() / 350 * 350))).ok();
                }
                seen.push(name);
            }
            let stayed: Vec<&String> = seen.iter().filter(|name| name.starts_with("name")).collect();
            assert_eq!(stayed.len(), 1000);
            assert_eq!(stayed.iter().collect::<BTreeSet<_>>().len(), 1000);
        }
    });
}

#[test]
fn a_large_merged_directory_is_removed_whole_while_it_is_read() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        assert_eq!(names(union.path("d")).len(), 1000);
        fs::remove_dir_all(union.path("d")).unwrap();
        assert!(!union.path("d").exists());
        assert_eq!(
            names(union.top("")),
            [".wh..wh.work", ".wh.d"]
                .map(String::from)
                .to_vec()
                .into_iter()
                .filter(|name| union.top(name).exists())
                .collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_removed_directory_is_empty_for_who_stands_in_it() {
    needs!(Root, Fuse);
    in_both_ways(branches, |union| {
        fs::create_dir(union.path("e")).unwrap();
        let open = fs::File::open(union.path("e")).unwrap();
        fs::remove_dir(union.path("e")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&open.metadata().unwrap()), 0);
        let inside = format!("/proc/self/fd/{}/new", std::os::fd::AsRawFd::as_raw_fd(&open));
        assert_eq!(crate::mounted::errno(fs::write(inside, "")), libc::ENOENT);
        open.sync_all().unwrap();
        fs::File::open(union.path("d")).unwrap().sync_all().unwrap();
    });
}
