"""Full grids of recorded trainings: recipes, data sets, and the files in which finished grids are kept."""
