//! Which distribution this is, and so which command mends a need. os-release(5).

use std::fs;

/// The families of distributions that differ in the name of a package and the command that installs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu and what derives from them: apt.
    Debian,
    /// Fedora, Red Hat and what derives from them: dnf.
    Fedora,
    /// Arch and what derives from it: pacman.
    Arch,
    /// Alpine: apk.
    Alpine,
    /// None of these.
    Other,
}

impl Distribution {
    /// The distribution of this machine.
    pub fn here() -> Self {
        // os-release(5): the second is read only where the first does not exist.
        let file =
            fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
        file.map_or(Distribution::Other, |text| Distribution::from_os_release(&text))
    }

    /// The distribution that an os-release file names: its `ID`, or else the first known one of `ID_LIKE`.
    fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        names.split_whitespace().find_map(Distribution::by_name).unwrap_or(Distribution::Other)
    }

    fn by_name(name: &str) -> Option<Self> {
        match name {
            "debian" | "ubuntu" => Some(Distribution::Debian),
            "fedora" | "rhel" | "centos" => Some(Distribution::Fedora),
            "arch" => Some(Distribution::Arch),
            "alpine" => Some(Distribution::Alpine),
            _ => None,
        }
    }
}

/// What mends a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Install a package; its name in each family.
    Package {
        /// Debian and Ubuntu.
        debian: &'static str,
        /// Fedora.
        fedora: &'static str,
        /// Arch.
        arch: &'static str,
        /// Alpine.
        alpine: &'static str,
    },
    /// A command that root has to run.
    Root(&'static str),
    /// What no single command does.
    Advice(&'static str),
}

impl Remedy {
    /// The command as this user types it on this distribution.
    pub fn command(self, distribution: Distribution, root: bool) -> String {
        let sudo = if root { "" } else { "sudo " };
        match self {
            Remedy::Root(command) => format!("{sudo}{command}"),
            Remedy::Advice(advice) => advice.to_owned(),
            Remedy::Package { debian, fedora, arch, alpine } => match distribution {
                Distribution::Debian => format!("{sudo}apt install {debian}"),
                Distribution::Fedora => format!("{sudo}dnf install {fedora}"),
                Distribution::Arch => format!("{sudo}pacman -S {arch}"),
                Distribution::Alpine => format!("{sudo}apk add {alpine}"),
                Distribution::Other => format!("install the package that Debian calls {debian}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_distribution_is_known_by_what_it_is_like() {
        let mint = "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(Distribution::from_os_release(mint), Distribution::Debian);
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(Distribution::from_os_release(rocky), Distribution::Fedora);
        assert_eq!(Distribution::from_os_release("ID=nixos\n"), Distribution::Other);
        assert_eq!(Distribution::from_os_release("ID_LIKE=arch\nID=manjaro"), Distribution::Arch);
    }

    #[test]
    fn each_distribution_gets_its_own_command() {
        let remedy = Remedy::Package {
            debian: "uidmap",
            fedora: "shadow-utils",
            arch: "shadow",
            alpine: "shadow-uidmap",
        };
        assert_eq!(remedy.command(Distribution::Debian, false), "sudo apt install uidmap");
        assert_eq!(remedy.command(Distribution::Fedora, true), "dnf install shadow-utils");
        assert_eq!(remedy.command(Distribution::Alpine, false), "sudo apk add shadow-uidmap");
    }
}
