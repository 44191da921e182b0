//! The UTS namespace's two names.

mod forked;

use std::fs::File;

use ch07_privileges::uts;
use forked::Forked;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::utsname::uname;
use nix::unistd::{Pid, getegid, geteuid};
use testing::needs;
use userns::map;

tests! {
    root_names_its_namespace_and_not_the_host,
    a_plain_user_names_the_namespace_that_it_has_made_and_no_other,
}

/// The names in another process's namespace, as uname(2) tells them there.
fn names_of(pid: Pid) -> (String, String) {
    let namespace = File::open(format!("/proc/{pid}/ns/uts")).unwrap();
    // setns moves this thread alone, which ends after it.
    let names = || {
        setns(namespace, CloneFlags::CLONE_NEWUTS).unwrap();
        let names = uname().unwrap();
        (names.nodename().to_str().unwrap().to_string(), names.domainname().to_str().unwrap().to_string())
    };
    std::thread::scope(|scope| scope.spawn(names).join().unwrap())
}

fn own_names() -> (String, String) {
    names_of(Pid::this())
}

fn root_names_its_namespace_and_not_the_host() {
    needs!(Root);
    let before = own_names();
    let longest = "x".repeat(uts::LONGEST);
    let mut inside = Forked::start(|life| {
        unshare(CloneFlags::CLONE_NEWUTS)?;
        uts::set_hostname("container")?;
        uts::set_domainname("example.org")?;
        let names = uts::names()?;
        life.say(format!("{} {}", names.hostname, names.domainname));
        life.wait();
        for name in [format!("{longest}x"), "a\0b".into()] {
            let error = uts::set_hostname(&name).unwrap_err();
            anyhow::ensure!(error.downcast_ref() == Some(&Errno::EINVAL), "not EINVAL: {error:?}");
            life.say(format!("{error:#}"));
        }
        life.wait();
        uts::set_hostname(&longest)?;
        uts::set_domainname("")?;
        life.say("longest");
        Ok(())
    });
    assert_eq!(inside.line(), "container example.org");
    assert_eq!(names_of(inside.pid()), ("container".into(), "example.org".into()));
    inside.go();
    assert!(inside.line().contains("has 65 bytes; the kernel takes 64"));
    assert!(inside.line().contains("NUL"));
    assert_eq!(names_of(inside.pid()).0, "container");
    inside.go();
    assert_eq!(inside.line(), "longest");
    assert_eq!(names_of(inside.pid()), (longest.clone(), String::new()));
    assert_eq!(own_names(), before);
}

fn a_plain_user_names_the_namespace_that_it_has_made_and_no_other() {
    needs!(UserNamespaces);
    let before = uname().unwrap().nodename().to_os_string();
    let mut inside = Forked::as_plain_user(|life| {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        map::write_single(user, group)?;
        let error = uts::set_hostname("stolen").unwrap_err();
        anyhow::ensure!(error.downcast_ref() == Some(&Errno::EPERM), "not EPERM: {error:?}");
        life.say(format!("{error:#}"));
        unshare(CloneFlags::CLONE_NEWUTS)?;
        uts::set_hostname("container")?;
        life.say(uname()?.nodename().to_string_lossy());
        Ok(())
    });
    assert!(inside.line().contains("unshare(CLONE_NEWUTS) makes one that is ours"));
    assert_eq!(inside.line(), "container");
    assert_eq!(uname().unwrap().nodename(), before);
}
