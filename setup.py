"""What pyproject.toml cannot say: the scripts in data_scripts/ are installed as msun_lite.data_scripts."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["msun_lite*"]), "msun_lite.data_scripts"],
    package_dir={"msun_lite.data_scripts": "data_scripts"},
)
