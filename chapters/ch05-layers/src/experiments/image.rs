// ANCHOR: image
//! An image of three small layers: what each step of the experiments needs, and no more.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ch05_layers::layers::Layers;

/// The size of the file whose deletion frees nothing: 64 KiB.
pub const BIG: usize = 64 << 10;

/// The layers' names, the top one first.
pub const LAYERS: [&str; 3] = ["app", "tools", "base"];

/// Each on top of the one before. The second has a file that the first has too; the third deletes one.
pub fn make(layers: &Layers) -> Result<()> {
    layers.add_with("base", None, |layer| {
        write(layer, "cache/index", b"an index\n")?;
        write(layer, "etc/issue", b"base 1.0\n")?;
        write(layer, "etc/motd", b"welcome to base\n")?;
        write(layer, "lib/big", &[b'h'; BIG])
    })?;
    layers.add_with("tools", Some("base"), |layer| {
        write(layer, "etc/motd", b"welcome to base, with tools\n")?;
        write(layer, "lib/tool", &[b't'; BIG])
    })?;
    layers.add_with("app", Some("tools"), |layer| {
        write(layer, "etc/.wh.issue", b"")?;
        write(layer, "srv/app", b"an application\n")
    })
}

fn write(layer: &Path, path: &str, content: &[u8]) -> Result<()> {
    let file = layer.join(path);
    let directory = file.parent().unwrap_or(layer);
    fs::create_dir_all(directory).with_context(|| format!("mkdir {directory:?}"))?;
    fs::write(&file, content).with_context(|| format!("write {file:?}"))
}
// ANCHOR_END: image
