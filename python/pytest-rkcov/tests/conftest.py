# SPDX-License-Identifier: MIT OR Apache-2.0
import pytest

pytest_plugins = ["pytester"]


# Where the plug-in is installed: a runtime that takes notes is not to hear of the tests here.
@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if config.pluginmanager.has_plugin("rkcov-contexts"):
        config.pluginmanager.unregister(name="rkcov-contexts")
