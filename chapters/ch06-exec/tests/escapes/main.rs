//! The escapes by which a container has got out through `exec`: each works on a careless program, and fails on ours.
//!
//! This file is several programs in one, told apart by the name under which it runs: the tests themselves; `careless`,
//! which is the example of that name; `protected`, which only protects itself. So each attack has a copy of a program
//! to spoil.

#[allow(dead_code)]
#[path = "../../examples/careless.rs"]
mod careless;
mod container;
mod descriptors;
mod executable;
mod joining;
mod overwrite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default().to_owned();
    match name.to_str() {
        Some("careless") => careless::careless(std::env::args_os().skip(1)).unwrap_or_else(|error| {
            eprintln!("careless: {error:#}");
            ExitCode::FAILURE
        }),
        Some("protected") => executable::protected(),
        // The container's `#!/proc/self/exe` has made the careless program run once more. Where it is a runtime, it
        // works for some milliseconds here.
        Some("exe") => {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ExitCode::FAILURE
        }
        _ => testing::run_tests![
            descriptors::a_directory_that_is_left_open_leads_out_of_the_careless_alone,
            descriptors::a_working_directory_in_proc_self_fd_leads_out_of_the_careless_alone,
            descriptors::a_working_directory_out_of_the_root_is_refused_even_by_an_open_descriptor,
            overwrite::the_program_of_the_careless_is_overwritten,
            overwrite::a_read_only_clone_is_not_overwritten,
            overwrite::a_sealed_copy_is_not_overwritten,
            overwrite::a_clone_whose_descriptor_is_open_is_made_writable,
            joining::a_process_that_joins_is_read_by_its_neighbours_where_it_is_careless_alone,
            executable::arguments_and_environment_are_kept,
            executable::a_protected_program_starts_anew_once,
            executable::a_plain_user_runs_from_a_sealed_copy,
            executable::a_user_namespace_is_enough_for_a_read_only_clone,
            executable::a_kernel_without_mount_setattr_gives_a_sealed_copy,
            executable::what_cannot_be_protected_says_why,
        ],
    }
}
