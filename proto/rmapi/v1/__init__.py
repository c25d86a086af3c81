"""Version 1 of the contract: ``resource_manager``, ``session`` and ``types``, generated from the files beside."""
