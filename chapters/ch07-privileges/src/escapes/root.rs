// ANCHOR: walk_out
//! Chapter 0: out of a root directory by the five calls.

use anyhow::Result;
use ch00_chroot::escape;

use super::stage::Stage;
use crate::container::Container;
use crate::inside::Answer;

/// All five calls succeed in a container that may call chroot(2). It counts where they end.
pub fn walk_out(stage: &Stage, container: &Container) -> Result<Answer> {
    let host = stage.root;
    stage.ask(container, &[], || match escape() {
        Ok(root) if root == host => Ok("/ is the host's".into()),
        Ok(_) => Err("/ is still its own".into()),
        Err(error) => Err(lesson::describe(&error)),
    })
}
// ANCHOR_END: walk_out
