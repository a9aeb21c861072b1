"""template.yaml with its parameters filled in, and what the role may do by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from client.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent
ACCOUNT = "123456789012"
REGION = "eu-west-1"
BUCKET = "artifacts"
NOTHING = object()
PSEUDO: dict[str, Any] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": NOTHING,
}


class TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def long_form(loader: TemplateLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    """Turn !Sub text into {"Fn::Sub": text}, and so on."""
    match node:
        case yaml.ScalarNode():
            value: Any = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


TemplateLoader.add_multi_constructor("!", long_form)
TEMPLATE: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), TemplateLoader)  # noqa: S506  # a SafeLoader


class Resolver:
    """The template with its parameters filled in."""

    def __init__(self, parameters: Mapping[str, str], here: Mapping[str, str] = PSEUDO) -> None:
        self.parameters = {**PSEUDO, **here}
        for name, declared in TEMPLATE["Parameters"].items():
            self.parameters[name] = parameters.get(name, declared.get("Default"))

    def ref(self, name: str) -> Any:
        if name in TEMPLATE["Resources"]:
            return f"<{name}>"
        value = self.parameters[name]
        if TEMPLATE["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList":
            return [part.strip() for part in value.split(",")]
        return value

    def __call__(self, node: Any) -> Any:
        match node:
            case list():
                return [self(each) for each in node]
            case {"Ref": name}:
                return self.ref(name)
            case {"Fn::GetAtt": [resource, attribute]}:
                return self.parameters.get(f"{resource}.{attribute}", f"<{resource}.{attribute}>")
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(self.ref(match[1])), text)
            case {"Fn::Join": [str(separator), parts]}:
                return separator.join(self(parts))
            case {"Fn::Split": [str(separator), text]}:
                return self(text).split(separator)
            case {"Fn::Select": [index, parts]}:
                return self(parts)[int(index)]
            case {"Fn::If": [condition, then, otherwise]}:
                return self(then if self.condition(condition) else otherwise)
            case {"Fn::Equals": [one, other]}:
                return self(one) == self(other)
            case {"Fn::Not": [one]}:
                return not self(one)
            case dict():
                assert not any(key.startswith("Fn::") for key in node), f"this resolver does not know {node}"
                pairs = ((key, self(value)) for key, value in node.items())
                return {key: value for key, value in pairs if value is not NOTHING}
        return node

    def condition(self, name: str) -> bool:
        return bool(self(TEMPLATE["Conditions"][name]))

    def resources(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the resources that are made, resolved."""
        for name, resource in TEMPLATE["Resources"].items():
            if "Condition" not in resource or self.condition(resource["Condition"]):
                yield name, {"Type": resource["Type"], "Properties": self(resource["Properties"])}

    def statements(self) -> list[dict[str, Any]]:
        """Return all that the role's policies say."""
        found: list[dict[str, Any]] = []
        for _, resource in self.resources():
            properties = resource["Properties"]
            if resource["Type"] == "AWS::IAM::Policy":
                assert properties["Roles"] == ["<Role>"]
                found += properties["PolicyDocument"]["Statement"]
            for policy in properties.get("Policies", []):
                found += policy["PolicyDocument"]["Statement"]
            assert "ManagedPolicyArns" not in properties
        return found


def config(**changes: Any) -> Config:
    """Return settings as config.ini gives them."""
    values: dict[str, Any] = {
        "aws_profile": "",
        "aws_region": REGION,
        "deployment_bucket": BUCKET,
        "function_name": "yo-dawg",
        "runtime": "python3.13",
        "architecture": "arm64",
        "memory_size": 1000,
        "ephemeral_storage": 600,
        "timeout": 300,
        "deployable_functions": ("project-to-build", "other-*"),
        "base_url": "https://git.example/me",
        "username": "",
        "token_secret": "",
        "deploy_key_secret": "",
        "known_hosts": "",
        "proof": "warn",
        "bytecode": "used",
        "index_secret": "",
        "keep_versions": "",
        "kms_keys": (),
        "permissions_boundary": "",
        "vpc_subnets": (),
        "vpc_security_groups": (),
        "proxy": "",
        "index_url": "",
        "extra_index_url": (),
        "ca_bundle": "",
    }
    return Config(**(values | changes))


def policy(**changes: Any) -> list[dict[str, Any]]:
    """Return the role's statements for these settings."""
    return Resolver(config(**changes).parameters("yo-dawg/function/0.zip")).statements()
