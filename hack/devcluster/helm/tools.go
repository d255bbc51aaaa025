//go:build tools

// Package tools pins Helm: go.mod can only hold versions of modules that some file of this module imports.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
