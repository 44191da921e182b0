//! libseccomp's compiler, loaded from the library as it is installed nearly everywhere; its headers are not.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::{Read, Seek};
use std::mem::transmute_copy;
use std::os::fd::AsRawFd;

use ch07_privileges::seccomp::Policy;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::policy::{Condition, Operator};
use ch07_privileges::seccomp::program::Instruction;

/// The library's file name: the same since 2012.
pub const LIBRARY: &str = "libseccomp.so.2";

/// The functions that we call; seccomp_init(3) and so on.
pub struct Libseccomp {
    init: unsafe extern "C" fn(u32) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void),
    arch_exist: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    arch_add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    resolve_for: unsafe extern "C" fn(u32, *const c_char) -> c_int,
    resolve: unsafe extern "C" fn(*const c_char) -> c_int,
    attr_set: unsafe extern "C" fn(*mut c_void, c_uint, u32) -> c_int,
    rule_add: unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Compare) -> c_int,
    export: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
}

/// `struct scmp_arg_cmp`.
#[repr(C)]
struct Compare {
    argument: c_uint,
    operator: c_uint,
    datum_a: u64,
    datum_b: u64,
}

impl Libseccomp {
    pub fn load() -> Option<Libseccomp> {
        let name = CString::new(LIBRARY).unwrap();
        // SAFETY: the library does nothing when it is loaded.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        // SAFETY: these are the types that seccomp.h declares; the library is never closed.
        unsafe {
            Some(Libseccomp {
                init: function(library, c"seccomp_init"),
                release: function(library, c"seccomp_release"),
                arch_exist: function(library, c"seccomp_arch_exist"),
                arch_add: function(library, c"seccomp_arch_add"),
                resolve_for: function(library, c"seccomp_syscall_resolve_name_arch"),
                resolve: function(library, c"seccomp_syscall_resolve_name"),
                attr_set: function(library, c"seccomp_attr_set"),
                rule_add: function(library, c"seccomp_rule_add_array"),
                export: function(library, c"seccomp_export_bpf"),
            })
        }
    }

    /// Whether this version knows the call; an older one does not know the newest.
    pub fn knows(&self, name: &str) -> bool {
        const NR_SCMP_ERROR: c_int = -1;
        let name = CString::new(name).unwrap();
        // SAFETY: the name is a string that lives through the call.
        unsafe { (self.resolve)(name.as_ptr()) != NR_SCMP_ERROR }
    }

    /// Whether the call has this number there; where one is behind another call, libseccomp has a number
    /// below 0 for it.
    pub fn agrees(&self, architecture: Architecture, name: &str, number: u32) -> bool {
        let is_behind = ch07_privileges::seccomp::syscalls::number(architecture, "socketcall").is_some();
        let name = CString::new(name).unwrap();
        // SAFETY: the name is a string that lives through the call.
        let theirs = unsafe { (self.resolve_for)(token(architecture), name.as_ptr()) };
        theirs as u32 == number || (theirs < -1 && is_behind)
    }

    /// The policy's filter, as runc asks for it. `searches`: with a binary search instead of a list.
    pub fn compile(&self, policy: &Policy, searches: bool) -> Vec<Instruction> {
        const SCMP_FLTATR_CTL_OPTIMIZE: c_uint = 8;
        // SAFETY: the arguments are what seccomp.h asks for; the filter is released at the end, and not used
        // after.
        unsafe {
            let filter = (self.init)(super::returned(policy.default));
            assert!(!filter.is_null());
            for architecture in &policy.architectures {
                let token = token(*architecture);
                if (self.arch_exist)(filter, token) != 0 {
                    assert_eq!((self.arch_add)(filter, token), 0, "{architecture}");
                }
            }
            if searches {
                assert_eq!((self.attr_set)(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), 0);
            }
            for rule in policy.rules.iter().filter(|rule| rule.action != policy.default) {
                let conditions: Vec<Compare> = rule.conditions.iter().map(compare).collect();
                let mut arguments: Vec<u32> = conditions.iter().map(|one| one.argument).collect();
                arguments.sort();
                arguments.dedup();
                let together = if arguments.len() == conditions.len() { conditions.len() } else { 1 };
                for name in rule.names.iter().filter(|name| self.knows(name)) {
                    let name = CString::new(name.as_str()).unwrap();
                    let number = (self.resolve)(name.as_ptr());
                    let add = |conditions: &[Compare]| {
                        let (count, first) = (conditions.len() as c_uint, conditions.as_ptr());
                        let result =
                            (self.rule_add)(filter, super::returned(rule.action), number, count, first);
                        assert_eq!(result, 0, "{name:?}");
                    };
                    match conditions.is_empty() {
                        true => add(&[]),
                        false => conditions.chunks(together).for_each(add),
                    }
                }
            }
            let mut file = tempfile::tempfile().unwrap();
            assert_eq!((self.export)(filter, file.as_raw_fd()), 0);
            (self.release)(filter);
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes.chunks(8).map(instruction).collect()
        }
    }
}

/// # Safety
///
/// `T` is the type of a function, and this function has it.
unsafe fn function<T>(library: *mut c_void, name: &CStr) -> T {
    // SAFETY: the library was opened, and the name is a string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!address.is_null(), "{LIBRARY} has no {name:?}");
    // SAFETY: the caller promises the type; the address of a function is as large as any.
    unsafe { transmute_copy(&address) }
}

fn instruction(bytes: &[u8]) -> Instruction {
    Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
    }
}

/// SCMP_ARCH_*: the kernel's numbers, but for x32.
fn token(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X32 => 0x4000_003e,
        other => other.audit(),
    }
}

fn compare(condition: &Condition) -> Compare {
    let operator = match condition.operator {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    };
    Compare {
        argument: condition.argument.into(),
        operator,
        datum_a: condition.value,
        datum_b: condition.value_two,
    }
}
