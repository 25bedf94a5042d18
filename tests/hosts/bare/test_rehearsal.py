"""On hosts with nothing but SSH: the production example can be rehearsed, and a rehearsal changes nothing."""

from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, Lab


def test_the_production_example_passes_its_argument_checks(lab: Lab, gateway: Host, database: Host) -> None:
    run = lab.playbook(
        "--check",
        "--diff",
        "--extra-vars=@inventory/lab/group_vars/all/vault.yml",
        inventory=CHECKOUT / "inventory/production",
        variables={
            "ansible_ssh_common_args": f"-F {lab.ssh_config}",
            # Connections that are kept must not serve a run on real hosts with the same addresses.
            "ansible_control_path_dir": f"~/.ansible/cp/{lab.directory.name}",
            "vault_openai_api_key": "sk-provider-key-of-the-test",
        },
    )

    assert run.succeeded
    assert run.changed.keys() == {"gateway-1", "database-1"}
    for secret in lab.secrets.values():
        assert secret not in run.output
    assert not gateway.file("/opt/litellm").exists
    assert not gateway.user("litellm").exists
    assert not database.package("postgresql-17").is_installed
    assert not database.file("/etc/postgresql-common").exists
