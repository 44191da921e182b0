//! A user without any privilege: fusermount3 mounts for him.

use testing::{Program, needs};

#[test]
fn a_plain_user_mounts_and_changes_a_union_of_his_own() {
    needs!(FuseAsPlainUser);
    let script = r#"
        set -e
        cd "$HOME"; mkdir top lower mnt; mkdir lower/d; echo lower > lower/d/f; echo gone > lower/gone
        "$0" mount --quiet --branch top=rw --branch lower=ro mnt -- sh -ec '
            cd mnt
            cat d/f; echo changed > d/f; cat d/f; rm gone; mkdir new; mv d/f new/g; ln new/g new/h; ln -s g new/s
            chmod 700 new; touch -d @1 new/g; stat -c "%a %h %Y %U" new/g; ls new; cat new/s
            ! chown 12345 new/g 2>/dev/null; df . | tail -1 | cut -d" " -f1
        '
        ls -A top; cat lower/d/f
    "#;
    let output =
        Program::new("sh").args(["-c", script]).arg(env!("CARGO_BIN_EXE_ch05-layers")).as_plain_user().run();
    assert_eq!(output.code, Some(0), "{output}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(&lines[..2], ["lower", "changed"], "{output}");
    assert!(lines[2].starts_with("644 2 1 "), "{output}");
    assert_eq!(&lines[3..], ["g", "h", "s", "changed", "aufs", ".wh.gone", "d", "new", "lower"], "{output}");
}
